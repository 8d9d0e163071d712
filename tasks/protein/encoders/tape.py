"""TAPE's ProteinBert (Rao et al., NeurIPS 2019): a BERT of 12 layers of width 768 over the letters of IUPAC.

Its code and transformers' BertModel agree, on three points only after reading both: LayerNorm divides by the root of
variance + 1e-12 in either; gelu is the exact one, with erf; and padding is kept out of attention by adding -10,000 to
its scores there and by the smallest float here, which after the softmax is exactly 0 both times.
"""

from pathlib import Path
from typing import Any

from common.data import hub
from tasks.protein.alphabet import of_vocabulary
from tasks.protein.config import Config, usual_length
from tasks.protein.encoders import bert
from tasks.protein.files import weights

tokens = ("<pad>", "<mask>", "<cls>", "<sep>", "<unk>", *"ABCDEFGHIKLMNOPQRSTUVWXYZ")  # numbered in this order
base: dict[str, Any] = dict(  # the published bert-base, for a network without its weights
    vocab_size=len(tokens), max_position_embeddings=8192, type_vocab_size=1, layer_norm_eps=1e-12,
    hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072,
)  # fmt: skip


def create(settings: dict | None = None, origin: Path | str = "tape.base") -> bert.Encoder:
    """A ProteinBert of the sizes in ``settings`` (those of a published config.json), freshly initialised."""
    vocabulary = {token: number for number, token in enumerate(tokens)}
    settings = settings or base
    alphabet = of_vocabulary(vocabulary, ("<pad>", "<unk>", "<cls>", "<sep>"), settings.get("vocab_size"), origin)
    return bert.build(settings, alphabet, origin, usual=usual_length)


def build(config: Config) -> bert.Encoder:
    """The published encoder from the folder ``config.pretrained``: TAPE's config.json and pytorch_model.bin."""
    settings, state = weights.files(config)
    encoder = create(hub.read_json(settings), settings)
    bert.fill(encoder, state)
    return encoder
