"""The protein language models ESM-1b (Rives et al., 2021) and ESM-2 (Lin et al., 2023) as transformers has them."""

from common.data import hub
from common.errors import UserError
from tasks.protein.alphabet import Alphabet, of_vocabulary
from tasks.protein.config import Config, usual_length
from tasks.protein.encoders import bert
from tasks.protein.files import weights

# ESM-1b (Rives et al., 2021), 650 million parameters: what its published config.json says, for random weights.
esm1b = dict(
    vocab_size=33, pad_token_id=1, mask_token_id=32, max_position_embeddings=1026, position_embedding_type="absolute",
    hidden_size=1280, num_hidden_layers=33, num_attention_heads=20, intermediate_size=5120, layer_norm_eps=1e-5,
    emb_layer_norm_before=True, token_dropout=True, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)  # fmt: skip
# ESM's vocabulary, numbered in this order; a published model brings it along as vocab.txt.
tokens = ("<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>")
# Of a published file these belong to heads, or are computed: positions 0, 1, 2, ..., and how fast rotations turn.
other_parts = ("lm_head*", "classifier.*", "*contact_head*", "*pooler*", "*position_ids", "*inv_freq*")


def build(config: Config) -> bert.Encoder:
    """ESM-1b or any ESM-2 from the folder ``config.pretrained`` or a hub's ``config.hub``, every weight of it used.

    Tokens are numbered as vocab.txt has them, and by no other file of the folder: those are not in the fingerprint.
    """
    files = weights.files(config)
    settings = hub.read_json(files[0])
    kind = settings.get("model_type")
    if kind != "esm":
        takes = "task.model=esm takes ESM-1b and ESM-2"
        raise UserError(f"{files[0]}: expected a model of type esm, found {kind}; {takes}")
    alphabet = weights.alphabet("esm", files)
    learnt = settings.get("position_embedding_type", "absolute") == "absolute"
    ignore = other_parts if learnt else (*other_parts, "*position_embeddings*")  # published files hold unused ones too
    return _esm(hub.network("EsmModel", files[0].parent, ignore, add_pooling_layer=False), alphabet)


def create(**settings) -> bert.Encoder:
    """An ESM of transformers' EsmConfig ``settings`` (such as ``esm1b``), freshly initialised."""
    transformers = hub.library()
    config = transformers.EsmConfig(**settings, attn_implementation="eager")
    network = transformers.EsmModel(config, add_pooling_layer=False)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return _esm(network, of_vocabulary(vocabulary, weights.special["esm"], network.config.vocab_size, "EsmConfig"))


def _esm(network, alphabet: Alphabet) -> bert.Encoder:
    # The head that predicts contacts is no part of any loss here: left in, it would count as weights that never move.
    del network.contact_head
    settings = network.config
    # Learnt positions are numbered from the padding's number + 1, and two of them are taken by the special tokens.
    learnt = settings.position_embedding_type == "absolute"
    limit = settings.max_position_embeddings - settings.pad_token_id - 3 if learnt else None
    return bert.Encoder(network, alphabet, limit, usual=usual_length)
