"""What each word of a problem is to begin with: a row of a table that is learned, or what a pretrained encoder says.

Either has ``width``; ``encode``, words -> (ids of pieces, the word of each), None where words are not cut into pieces;
and ``pretrained``, the part with a learning rate of its own, or None.
"""

from typing import Any

import torch
from torch import Tensor, nn

from common.data import hub
from common.errors import UserError
from tasks.arithmetic.config import Config
from tasks.arithmetic.files import weights
from tasks.arithmetic.vocabulary import Vocabulary

# Of a published file these belong to what it was trained for, not to what is read here.
other_parts = ("lm_head*", "cls.*", "classifier.*", "*predictions*", "vocab_*", "*pooler*", "*position_ids")


class Learned(nn.Module):
    """A table, learned with the rest. ``tokens`` are the vocabulary's numbers of words."""

    encode = None
    pretrained = None

    def __init__(self, words: int, width: int, dropout: float):
        super().__init__()
        self.width = width
        self.table = nn.Embedding(words, width, padding_idx=0)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, word_of: Tensor, lengths: Tensor) -> Tensor:
        """float [batch, words, width] of ``tokens`` int64 [batch, words]."""
        return self.dropout(self.table(tokens))


class Pretrained(nn.Module):
    """A word is the mean of what ``network``, a model of transformers such as RoBERTa, says of its pieces.

    Dropout is that of the network itself, as published.
    """

    pretrained: Any

    def __init__(self, network: Any, tokenizer):
        super().__init__()
        self.pretrained, self.width = network, network.config.hidden_size
        self.tokenizer = tokenizer
        self.padding = _one_of(tokenizer, "pad_token_id")
        self.first = _one_of(tokenizer, "cls_token_id", "bos_token_id")
        self.last = _one_of(tokenizer, "sep_token_id", "eos_token_id")
        self.limit, self.known = _limit(network), network.get_input_embeddings().num_embeddings
        self._pieces: dict[str, list[int]] = {}

    def encode(self, words: list[str]) -> tuple[list[int], list[int]]:
        """Ids of the pieces, a special one at either end, and the word that each belongs to (-1: none).

        ``UserError`` where there are more of them than the network has positions.
        """
        pieces, word_of = [self.first], [-1]
        for number, word in enumerate(words):  # as in running text: the space before a word is part of it
            if (found := self._pieces.get(word)) is None:
                found = self.tokenizer.encode(" " + word, add_special_tokens=False) or [self.tokenizer.unk_token_id]
                if max(found) >= self.known:
                    raise UserError(
                        f"{self.tokenizer.name_or_path}: the tokenizer gives '{word}' piece {max(found)}, and the "
                        f"network has {self.known}: they do not belong together; fetch both again"
                    )
                self._pieces[word] = found
            pieces += found
            word_of += [number] * len(found)
        if self.limit is not None and len(pieces) + 1 > self.limit:
            raise UserError(
                f"the problem '{' '.join(words[:12])} ...' of {len(words)} words is {len(pieces) + 1} pieces long, and "
                f"the pretrained embedding reads {self.limit} at most: shorten it, or take task.embedding=learned"
            )
        return [*pieces, self.last], [*word_of, -1]

    def forward(self, tokens: Tensor, word_of: Tensor, lengths: Tensor) -> Tensor:
        """float [batch, words, width] of ``tokens`` and ``word_of``, int64 [batch, pieces], as ``encode`` has them."""
        belongs = word_of >= 0
        pieces = belongs.sum(1, keepdim=True)
        real = torch.arange(tokens.shape[1], device=tokens.device) < pieces + 2
        ids = tokens.masked_fill(~real, self.padding)
        found = self.pretrained(input_ids=ids, attention_mask=real.long()).last_hidden_state
        found = found.to(torch.promote_types(found.dtype, torch.float32))
        words = torch.arange(int(lengths.max()), device=tokens.device)
        share = (word_of[:, None] == words[:, None]).to(found.dtype)  # [batch, words, pieces]
        return share @ found / share.sum(-1, keepdim=True).clamp(min=1)


def _one_of(tokenizer, *names: str) -> int:
    for name in names:
        if (found := getattr(tokenizer, name, None)) is not None:
            return found
    raise UserError(f"{tokenizer.name_or_path}: expected a tokenizer with a {' or '.join(names)}, found none")


def _limit(network: Any) -> int | None:
    """The most pieces that the network reads, special ones included; None where positions are not numbered."""
    table = getattr(getattr(network, "embeddings", None), "position_embeddings", None)
    if not isinstance(table, nn.Embedding):
        return None
    return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)  # RoBERTa's begin there


def build(config: Config, vocabulary: Vocabulary) -> Learned | Pretrained:
    """The embedding that ``config`` asks for. No network is used: what is to be read must lie on this machine."""
    if config.embedding == "learned":
        return Learned(len(vocabulary.words), config.embedding_width, config.dropout)
    folder = weights.files(config)[0].parent
    tokenizer, network = hub.load("AutoTokenizer", folder), hub.network("AutoModel", folder, other_parts)
    if getattr(network, "pooler", None) is not None:  # nothing here asks for it: it would never learn
        network.pooler = None
    return Pretrained(network, tokenizer)
