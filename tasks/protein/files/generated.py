"""The embedded data: sequences whose temperature is half their composition, half motifs that composition cannot see."""

import functools

import numpy as np

from common.data import splits
from tasks.protein.alphabet import RESIDUES

count = 3000  # sequences, a tenth of them tested
shortest, longest = 30, 60  # residues
favoured = "IVYWREL"  # their share rises with growth temperature in nature too (Zeldovich et al., 2007)
motif, decoy = "DKN", "NKD"  # same letters, other order: in sum every sequence has the same number of them
places = 6  # in each sequence, each with a motif or its decoy
middle, spread, noise = 50.0, 6.0, 1.5  # degrees: mean, what a deviation of either half is worth, unexplained
seed = 20_231_101


@functools.cache
def sequences() -> tuple[list[str], list[float]]:
    """Sequences and temperatures in degrees Celsius, rounded to 0.1; the same on every machine."""
    draws = splits.draws(seed, count * (longest + places + 20)) >> np.uint64(11)
    table = (draws.astype(np.float64) * 2.0**-53).reshape(count, -1)
    letters, shares, motifs = [], np.empty(count), np.empty(count)
    is_favoured = np.array([letter in favoured for letter in RESIDUES])
    for row, uniform in enumerate(table):
        size = shortest + int(uniform[0] * (longest - shortest + 1))
        weights = np.where(is_favoured, 0.5 + uniform[1], 1.0)  # from rarer to more frequent by a half
        chosen = np.searchsorted(np.cumsum(weights / weights.sum()), uniform[20 : 20 + size]).clip(max=19)
        text = list(np.array(list(RESIDUES))[chosen])
        wanted = int(uniform[2] * (places + 1))  # how many of the places hold the motif
        ranks = np.argsort(uniform[-places:], kind="stable")
        room = size // places
        for place in range(places):
            start = place * room + int(uniform[3 + place] * (room - len(motif) + 1))
            text[start : start + len(motif)] = motif if ranks[place] < wanted else decoy
        letters.append("".join(text))
        shares[row] = np.mean([letter in favoured for letter in text])
        motifs[row] = wanted
    unexplained = table[:, 9:19].sum(1) - 5  # nearly normal, variance 10/12
    degrees = middle + spread * (_standard(shares) + _standard(motifs)) + noise * _standard(unexplained)
    return letters, [round(float(value), 1) for value in degrees]


def _standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()
