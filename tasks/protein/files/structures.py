"""Protein structures from PDB and mmCIF files: the backbone atoms N, CA and C of one chain. Numpy and biopython."""

import io
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.data import files
from common.errors import UserError, install

backbone = ("N", "CA", "C")
atoms = ("ATOM", "HETATM")  # what an atom's line begins with in either format
endings = (".pdb", ".cif", ".ent", ".mmcif", ".pdb.gz", ".cif.gz", ".ent.gz", ".mmcif.gz")
doubtful = 1 / 10  # of a file's residues that may have names which say nothing, where the sequence knows the letter
most = 1 / 3  # of a sequence's residues that may be without coordinates: loops are, a file that was cut has more
rare = {"SEC": "U", "PYL": "O", "ASX": "B", "GLX": "Z", "XLE": "J", "UNK": "X"}  # residues that biopython's table lacks
inside = ("unrelaxed_model_1_ptm", "ranked_0")  # AlphaFold's model in a protein's own folder, HotProtein's way


@dataclass(frozen=True)
class Chain:
    """The residues of a chain that a file holds, in its order.

    name: of the chain; letters: one-letter codes (X where the residue has none); numbers: int64[n], the file's own
    numbering; coordinates: float32[n, 3, 3], angstroms of N, CA and C, NaN where an atom is missing.
    """

    name: str
    letters: str
    numbers: np.ndarray
    coordinates: np.ndarray


def locate(folder: Path, names: Iterable[str]) -> dict[str, Path]:
    """The structure file of every protein in ``names``; one UserError lists those that have none."""
    predicted = _predicted(folder)
    places = {name: _own(folder, name) or predicted.get(name) for name in names}
    found = {name: path for name, path in places.items() if path}
    if missing := [name for name in places if name not in found]:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        one = missing[0]
        raise UserError(
            f"{folder}: {len(missing)} of {len(places)} structures are missing: {', '.join(missing[:5])}{more}. "
            f"Expected {one}.pdb or {one}.cif (packed with gzip or not), {one}/{inside[0]}.pdb or "
            f"AF-{one}-F1-model_v4.pdb in that folder; put them there, or choose a model that reads sequences alone "
            "(task.model)"
        )
    return found


def _own(folder: Path, name: str) -> Path | None:
    """The file that is named after a protein, or lies in the folder that is."""
    stems = [name, *(f"{name}/{model}" for model in inside)]
    return next((path for stem in stems for ending in endings if (path := folder / f"{stem}{ending}").is_file()), None)


def _predicted(folder: Path) -> dict[str, Path]:
    """The files that are named as in AlphaFold's database, by protein; of several versions the highest."""
    found = []
    for path in folder.glob("AF-*-F1-model_v*"):
        parts = re.match(r"AF-(.+)-F1-model_v(\d+)\.", path.name)
        if parts and path.name.endswith(endings):
            found.append((int(parts[2]), path.name, parts[1], path))
    return {name: path for _, _, name, path in sorted(found)}


def read(path: Path, sequence: str, chain: str = "") -> np.ndarray:
    """Coordinates float32[len(sequence), 3, 3] of N, CA and C in angstroms for every residue of ``sequence``.

    The file must hold exactly these residues. Where it leaves some out (unresolved loops of an experiment), it must
    number the others by their place in ``sequence``, from 1; those left out get NaN, and where they and those that lack
    an atom are more than a third it is a UserError. X stands for any residue, in the file for a tenth of them at most.
    """
    found = chain_of(path, chain)
    places = np.arange(len(found.letters))
    if len(found.letters) != len(sequence) and _numbered(found, len(sequence)):
        places = found.numbers - 1
    unknown, compared = [], 0
    for place, letter, number in zip(places, found.letters, found.numbers):
        expected = sequence[place] if place < len(sequence) else "nothing"
        if letter != expected and letter in rare.values():  # the sequence may spell out what these stand for
            letter = "X"
        open_to_any = "X" in (letter, expected)
        if expected == "nothing" or (letter != expected and not open_to_any):
            raise UserError(
                f"{_line(path, found, number)}: residue {number} is {letter}, where residue {place + 1} of the "
                f"sequence is {expected}; expected the structure of the same protein ({len(sequence)} residues, found "
                f"{len(found.letters)})"
            )
        unknown += [number] if letter == "X" != expected else []
        compared += not open_to_any
    if len(unknown) > doubtful * len(found.letters) or not compared:
        raise UserError(
            f"{_line(path, found, unknown[0] if unknown else None)}: {len(unknown)} of {len(found.letters)} residues "
            f"have names that stand for no amino acid, {compared} could be compared with the sequence; expected the "
            "names of nine in ten at least, to tell that this is the same protein"
        )
    if len(found.letters) < len(sequence) and not _numbered(found, len(sequence)):
        raise UserError(
            f"{_line(path, found)}: the file ends after residue {found.numbers[-1]}: expected the {len(sequence)} "
            f"residues of the sequence, found {len(found.letters)}; where some are left out the others must be "
            "numbered by their place in it"
        )
    if places[-1] < len(sequence) - 1 and (line := _cut(path)):
        raise UserError(
            f"{path}:{line}: the file ends within its atoms, after residue {places[-1] + 1} of {len(sequence)}; "
            "expected TER, END or # after the last one. Was it cut? Bring it again"
        )
    coordinates = np.full((len(sequence), len(backbone), 3), np.nan, dtype=np.float32)
    coordinates[places] = found.coordinates
    if not resolved(coordinates).any():
        expected = "expected a structure of the whole backbone"
        raise UserError(f"{path}: no residue has its backbone atoms N, CA and C; {expected}")
    missing = int((~resolved(coordinates)).sum())
    if missing > most * len(sequence):
        raise UserError(
            f"{_line(path, found)}: {missing} of {len(sequence)} residues have no coordinates of N, CA and C, the "
            f"file's last is residue {found.numbers[-1]}; expected those of two thirds at least. Is the file whole?"
        )
    return coordinates


def resolved(coordinates: np.ndarray) -> np.ndarray:
    """bool[n]: has a residue all three atoms? ``coordinates`` float[n, 3, 3]."""
    return np.isfinite(coordinates).all((1, 2))


def _numbered(found: Chain, length: int) -> bool:
    """Can the file's numbers be places in a sequence of ``length``?"""
    return bool(found.numbers[0] >= 1 and found.numbers[-1] <= length and (np.diff(found.numbers) > 0).all())


def _cut(path: Path) -> int:
    """The last line's number where a file ends with an atom, or within its line; 0 where something comes after them."""
    lines = _text(path).rstrip().splitlines()
    kind = lines[-1].split()[0][:6]
    return len(lines) if any(name.startswith(kind) for name in atoms) else 0


def _line(path: Path, found: Chain, number: int | None = None) -> str:
    """path:line of the first atom of a residue, the chain's last by default; for messages."""
    wanted, columns = [found.name, str(found.numbers[-1] if number is None else number)], []
    for at, line in enumerate(_text(path).splitlines(), start=1):
        if line.startswith("_atom_site."):  # mmCIF names its columns first
            columns.append(line.strip().removeprefix("_atom_site."))
        elif line.startswith(atoms):
            cells = dict(zip(columns, line.split()))
            chain = [cells.get("auth_asym_id"), cells.get("auth_seq_id")]
            if wanted == (chain if columns else [line[21:22], line[22:26].strip()]):
                return f"{path}:{at}"
    return str(path)


def chain_of(path: Path, name: str = "") -> Chain:
    """Chain ``name`` of the first model in a PDB or mmCIF file, packed with gzip or not; "" for its only chain."""
    letters = library()[1]
    chains = {chain.id: [residue for residue in chain if _is_residue(residue, letters)] for chain in _model(path)}
    chains = {chain: residues for chain, residues in chains.items() if residues}
    if not chains:
        raise UserError(f"{path}: expected the atoms of a protein, found no amino acid")
    if not name and len(chains) > 1:
        found = ", ".join(chains)
        raise UserError(f"{path}: expected one chain, found {found}; keep the protein's own chain in the file")
    name = name or next(iter(chains))
    if name not in chains:
        raise UserError(f"{path}: expected chain {name}, found {', '.join(chains)}")
    coordinates = np.full((len(chains[name]), len(backbone), 3), np.nan, dtype=np.float32)
    for place, residue in enumerate(chains[name]):
        for atom, label in enumerate(backbone):
            if label in residue:
                coordinates[place, atom] = residue[label].coord
    return Chain(
        name,
        "".join(letters.get(residue.resname.strip().upper(), "X") for residue in chains[name]),
        np.array([residue.id[1] for residue in chains[name]], dtype=np.int64),
        coordinates,
    )


def _is_residue(residue, letters: dict[str, str]) -> bool:
    """Amino acids, modified ones among them; not water, ions and ligands."""
    return residue.id[0] == " " or (residue.resname.strip().upper() in letters and "CA" in residue)


def _model(path: Path):
    parsers, _ = library()
    kind = parsers.MMCIFParser if path.name.removesuffix(".gz").endswith("cif") else parsers.PDBParser
    text = ""
    try:
        text = _text(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on chains in pieces and on elements, of no consequence here
            parser = kind(QUIET=True) if kind is parsers.MMCIFParser else kind(QUIET=True, PERMISSIVE=False)
            return next(iter(parser.get_structure(path.name, io.StringIO(text))))
    except UserError as problem:
        raise UserError(f"{problem}; expected a PDB or mmCIF file") from problem
    except Exception as problem:  # a damaged file makes the parsers raise nearly anything
        reason = " ".join(str(problem).split())[:200] or "it holds no atoms"
        line = re.search(r"line (\d+)", reason)
        where = f":{line[1]}" if line else ""
        last = "" if line or not text else f"; its last line is {len(text.splitlines())}"
        why = f"{type(problem).__name__}: {reason}{last}"
        raise UserError(f"{path}{where}: expected a PDB or mmCIF file, whole ({why})") from problem


def _text(path: Path) -> str:
    return files.unpacked(files.read(path), path).decode("utf-8-sig")  # some editors mark the beginning of a file


def library() -> tuple[Any, dict[str, str]]:
    """biopython's parsers, and its table of three-letter names -> one-letter codes, modified residues included."""
    try:
        from Bio import PDB
        from Bio.Data.PDBData import protein_letters_3to1_extended
    except ImportError as problem:
        how = f"read with the package biopython; install it: {install('biopython')}"
        raise UserError(f"structures are {how}") from problem
    return PDB, {name.strip(): letter for name, letter in protein_letters_3to1_extended.items()} | rare
