"""AntiBERTy (Ruffolo et al., 2021): a BERT of 26 million parameters, trained on antibodies, as its package has it."""

from common.data import hub
from tasks.protein.config import Config
from tasks.protein.encoders import bert
from tasks.protein.files import weights


def build(config: Config) -> bert.Encoder:
    """The encoder of the package's config.json, vocabulary and weights, or of those in ``config.pretrained``."""
    settings, vocabulary, state = weights.files(config)
    alphabet = weights.alphabet("antiberty", [settings, vocabulary])
    encoder = bert.build(hub.read_json(settings), alphabet, settings)
    bert.fill(encoder, state)
    return encoder
