"""Encoders built on the package transformers: what they share, and the BERT of TAPE and AntiBERTy."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.data import hub
from common.errors import UserError
from tasks.protein.alphabet import Alphabet
from tasks.protein.encoders import checkpoint

# Of a published file these belong to parts that a pooled prediction does not use: heads, and positions 0, 1, 2, ...
other_parts = ("cls.*", "mlm.*", "classify.*", "predict.*", "pooler.*", "embeddings.position_ids")


class Encoder(nn.Module):
    """A model of transformers with the interface of ``encoders``. ``mask``: True on special tokens too."""

    exclude: tuple[str, ...] = ()  # no matrices but those of self-attention and of the feed-forward layers
    network: Any

    def __init__(self, network: Any, alphabet: Alphabet, limit: int | None, usual: int | None = None):
        super().__init__()
        self.network, self.alphabet, self.limit, self.usual = network, alphabet, limit, usual
        self.width = network.config.hidden_size

    def recompute(self) -> None:
        self.network.activation_checkpointing_enable({"use_reentrant": False})

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        found = self.network(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        return found.to(torch.get_default_dtype())  # autocast may have left it in bfloat16


sizes = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "max_position_embeddings", "type_vocab_size", "layer_norm_eps",
)  # fmt: skip
others = ("hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range")


def build(settings: dict, alphabet: Alphabet, origin: Path | str, usual: int | None = None) -> Encoder:
    """A BERT (Devlin et al., 2019) of the sizes in ``settings``, freshly initialised, without the pooling layer.

    Attention is computed step by step, as it is defined: fused kernels have no second derivative on a CPU, and gain
    nothing there. ``origin`` is named where a size is missing.
    """
    transformers = hub.library()
    missing = [name for name in sizes if name not in settings]
    if missing:
        raise UserError(f"{origin}: expected the settings of a BERT, {', '.join(missing)} is missing")
    chosen = {name: settings[name] for name in (*sizes, *others) if name in settings}
    config = transformers.BertConfig(**chosen, pad_token_id=alphabet.padding, attn_implementation="eager")
    network = transformers.BertModel(config, add_pooling_layer=False)
    return Encoder(network, alphabet, limit=config.max_position_embeddings - 2, usual=usual)


def fill(encoder: Encoder, path: Path) -> None:
    """The weights of a published BERT: keys may begin with ``bert.``, norms have gamma and beta or weight and bias."""
    state = {}
    for name, value in checkpoint.read(path).items():
        name = name.removeprefix("bert.")
        for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
            name = name.removesuffix(old) + new if name.endswith(old) else name
        state[name] = value
    checkpoint.fill(encoder.network, state, path, ignore=other_parts)
