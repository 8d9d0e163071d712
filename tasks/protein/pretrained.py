"""Protein language models: ESM-1b and ESM-2 as transformers has them, and AntiBERTy as its own package has it."""

from pathlib import Path

from common.data import hub
from common.errors import UserError
from tasks.protein import bert, weights
from tasks.protein.alphabet import Alphabet, of_vocabulary
from tasks.protein.config import Config, usual_length

# ESM-1b (Rives et al., 2021), 650 million parameters: what its published config.json says, for random weights.
esm1b = {
    "vocab_size": 33,
    "pad_token_id": 1,
    "mask_token_id": 32,
    "hidden_size": 1280,
    "num_hidden_layers": 33,
    "num_attention_heads": 20,
    "intermediate_size": 5120,
    "max_position_embeddings": 1026,
    "position_embedding_type": "absolute",
    "emb_layer_norm_before": True,
    "token_dropout": True,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "layer_norm_eps": 1e-5,
}
# ESM's vocabulary, numbered in this order; a published model brings it along as vocab.txt.
tokens = ("<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>")
# Of a published file these belong to heads, or are computed: positions 0, 1, 2, ..., and how fast rotations turn.
other_parts = ("lm_head*", "classifier.*", "*contact_head*", "*pooler*", "*position_ids", "*inv_freq*")


def build(config: Config) -> bert.Encoder:
    """``esm`` from the folder ``config.pretrained`` or a hub's ``config.hub``; ``antiberty`` from its package."""
    encoder = (antiberty if config.model == "antiberty" else esm)(weights.files(config))
    if config.recompute:
        encoder.recompute()
    return encoder


def create_esm(**settings) -> bert.Encoder:
    """An ESM of transformers' EsmConfig ``settings`` (such as ``esm1b``), freshly initialised."""
    transformers = bert.library()
    network = transformers.EsmModel(
        transformers.EsmConfig(**settings, attn_implementation="eager"), add_pooling_layer=False
    )
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return _esm(network, of_vocabulary(vocabulary, weights.special["esm"], network.config.vocab_size, "EsmConfig"))


def esm(files: list[Path]) -> bert.Encoder:
    """ESM-1b or any ESM-2 from the folder of ``files``: config.json, vocab.txt and the weights, all of them used.

    Tokens are numbered as vocab.txt has them, and by no other file of the folder: those are not in the fingerprint.
    """
    transformers, folder = bert.library(), files[0].parent
    kind = hub.read_json(files[0]).get("model_type")
    if kind != "esm":
        raise UserError(
            f"{files[0]}: expected a model of type esm, found {kind}; task.model=esm takes ESM-1b and ESM-2"
        )
    alphabet = weights.alphabet("esm", files)
    try:
        network, loaded = transformers.EsmModel.from_pretrained(
            folder,
            local_files_only=True,
            add_pooling_layer=False,
            attn_implementation="eager",
            dtype="float32",
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below, all at once
        )
    except Exception as problem:  # transformers, safetensors and torch have a dozen kinds between them
        reason = " ".join(str(problem).split())[:300]
        raise UserError(
            f"{folder}: expected an ESM as transformers writes it ({type(problem).__name__}: {reason}); fetch it again"
        ) from problem
    rotary = network.config.position_embedding_type != "absolute"  # published files of such hold unused positions too
    hub.filled(folder, loaded, ignore=(*other_parts, "*position_embeddings*") if rotary else other_parts)
    return _esm(network, alphabet)


def _esm(network, alphabet: Alphabet) -> bert.Encoder:
    # The head that predicts contacts is no part of any loss here: left in, it would count as weights that never move.
    del network.contact_head
    settings = network.config
    # Learnt positions are numbered from the padding's number + 1, and two of them are taken by the special tokens.
    learnt = settings.position_embedding_type == "absolute"
    limit = settings.max_position_embeddings - settings.pad_token_id - 3 if learnt else None
    return bert.Encoder(network, alphabet, limit, usual=usual_length)


def antiberty(files: list[Path]) -> bert.Encoder:
    """AntiBERTy (Ruffolo et al., 2021), 26 million parameters, trained on antibodies: config, vocabulary, weights."""
    settings, _, state = files
    encoder = bert.build(hub.read_json(settings), weights.alphabet("antiberty", files), settings)
    bert.fill(encoder, state)
    return encoder
