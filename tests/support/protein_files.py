"""A small thermostability data set in every published format, and the reading of a complaint."""

import io
import pickle
import random
import tarfile
from pathlib import Path

import pytest

from common.errors import UserError
from tasks.protein.alphabet import RESIDUES
from tests.support.places import SHARED

shared = SHARED / "protein"


def made(count: int = 60) -> list[tuple[str, str, float]]:
    """(name, sequence, degrees Celsius); all sequences differ, degrees from 2 to 100."""
    chosen = random.Random(0)
    found = {}
    while len(found) < count:
        sequence = "".join(chosen.choices(RESIDUES, k=chosen.randint(12, 30)))
        found[sequence] = (f"P{len(found):05d}", sequence, round(chosen.uniform(2, 100), 1))
    return list(found.values())


def parts(rows: list, fold: int) -> dict[str, list]:
    """The tenth of the rows that ``fold`` tests, and the others."""
    return {"train": [r for i, r in enumerate(rows) if i % 10 != fold], "test": rows[fold::10]}


def write(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def fold_files(rows: list, boundary: float = 75.0, folds=range(10)) -> dict[str, bytes]:
    """HotProtein's pickles of HP-S2C2: classes and temperatures."""
    found = {}
    for fold in folds:
        content = parts(rows, fold)
        names = {f"{part}_names": [name for name, _, _ in chosen] for part, chosen in content.items()}
        degrees = {f"{part}_labels": [value for _, _, value in chosen] for part, chosen in content.items()}
        classes = {key: [int(value >= boundary) for value in values] for key, values in degrees.items()}
        found[f"d1_{fold}.pkl"] = pickle.dumps({**names, **degrees}, protocol=3)
        found[f"d1_{fold}_classification.pkl"] = pickle.dumps({**names, **classes}, protocol=3)
    return found


def fasta_files(rows: list, below: str = "d1_fasta_clean") -> dict[str, str]:
    """One FASTA file a protein, in lines of ten residues."""
    return {
        f"{below}/{name}.fasta": f">tr|{name}|{name}_X Some protein OS=Nothing\n"
        + "\n".join(sequence[i : i + 10] for i in range(0, len(sequence), 10))
        + "\n"
        for name, sequence, _ in rows
    }


def archive(files: dict[str, str]) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content.encode()))
    return whole.getvalue()


def csv_files(rows: list, stem: str = "s2c2", folds=range(10)) -> dict[str, str]:
    """A CSV file for each part of each fold."""
    return {
        f"{stem}_{fold}_{part}.csv": "gene,sequence,tgt_reg,set,validation\n"
        + "".join(f"{name},{sequence},{value},{part},FALSE\n" for name, sequence, value in chosen)
        for fold in folds
        for part, chosen in parts(rows, fold).items()
    }


def flip(rows: list, marked: int = 12) -> str:
    """FLIP's table: one file with its own split, the first ``marked`` training rows for validation."""
    lines = ["sequence,target,set,validation"]
    for at, (_, sequence, value) in enumerate(rows):
        lines.append(f"{sequence},{value},{'test' if at % 5 == 0 else 'train'},{'True' if 0 < at <= marked else ''}")
    return "\n".join(lines) + "\n"


def complaint(call, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    return str(caught.value)
