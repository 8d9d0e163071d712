"""FASTA, CSV and pickled folds, read without trust: every problem is a UserError. Standard library only."""

import csv
import io
import math
import pickle
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.data import files
from common.errors import UserError
from tasks.protein.alphabet import LETTERS

Names = tuple[str, ...]  # of columns
csv.field_size_limit(1 << 24)  # titin is 35,000 residues long, synthetic ones may be longer
_sequence = ("sequence", "seq", "protein_sequence")
_name = ("accession", "gene", "uniprot_id", "name", "id")
separators = {".csv": ",", ".tsv": "\t", ".fasta": "", ".fa": "", ".faa": ""}  # by ending; empty: FASTA, no table
_known = frozenset(LETTERS + LETTERS.lower())
_decimal = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
coldest, hottest = -273.15, 200.0  # degrees Celsius: absolute zero, and what no protein outlasts but Kelvin reach


@dataclass(frozen=True)
class Entry:
    """One sequence as a file has it. ``part`` is train, test or empty; ``where`` is file:line."""

    name: str
    sequence: str
    where: str
    value: str = ""  # the target's text, empty where the file has none
    part: str = ""
    validation: bool = False
    column: str = ""  # where a table has the target
    beside: Names = ()  # the table's columns of other temperatures


def ending(path: Path) -> str:
    """Which of ``separators`` a file's name ends with, in letters of any case, before ``.gz``; empty for none."""
    found = Path(path.name.lower().removesuffix(".gz")).suffix
    return found if found in separators and not path.name.startswith("._") else ""  # macOS keeps attributes in ._*


def one_file(path: Path, targets: Names, beside: Names = ()) -> list[Entry]:
    """Entries of one CSV, TSV or FASTA file, plain or ``.gz``; ``targets`` and ``beside`` as ``table`` takes them."""
    kind = ending(path)
    if not kind:
        known = ", ".join(separators)
        raise UserError(f"{path}: expected a file whose name ends with {known} (and .gz, where it is compressed)")
    text = decoded(path)
    return table(text, str(path), targets, beside, separators[kind]) if separators[kind] else fasta(text, str(path))


def fasta(text: str, origin: str) -> list[Entry]:
    """Entries of a FASTA file; ``TARGET=``, ``SET=`` and ``VALIDATION=`` in a header are read as FLIP writes them."""
    found: list[Entry] = []
    lines: list[str] = []
    header, begun = "", 0
    text = text.replace("\r\n", "\n").replace("\r", "\n")  # splitlines() and strip() know more ends than a FASTA has
    for number, line in enumerate([*text.split("\n"), ">"], start=1):
        line = line.strip(" \t")
        if line.startswith(">"):
            if begun:
                found.append(_from_header(header, "".join(lines), f"{origin}:{begun}"))
            header, lines, begun = line[1:], [], number
        elif line:
            if not begun:
                header = "a FASTA header, a line that begins with '>'"
                raise UserError(f"{origin}:{number}: expected {header}, found {_short(line)}")
            lines.append(letters(line, f"{origin}:{number}"))
    if not found:
        raise UserError(f"{origin}: holds no sequence; expected FASTA, a header line with '>' before each sequence")
    return found


def _from_header(header: str, sequence: str, where: str) -> Entry:
    words = header.split()
    values = dict(word.split("=", 1) for word in words if "=" in word)
    name = words[0] if words else ""
    parts = name.split("|")  # UniProt: database|accession|entry
    name = parts[1] if len(parts) == 3 else name
    return _entry(name, sequence, where, values.get("TARGET", ""), values.get("SET", ""), values.get("VALIDATION", ""))


def table(text: str, origin: str, targets: Names, beside: Names = (), separator: str = ",") -> list[Entry]:
    """Entries of a CSV file with a header, which must have one column for the sequence and one for the target.

    ``targets``: what the latter may be called; ``beside``: columns of other temperatures, which the entries name where
    they are there too. ``separator`` stands between two values. A column ``set`` says train or test and ``validation``
    true or false, as FLIP has them; both may be missing.
    """
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        head = [name.strip().lower() for name in next(rows, [])]
        if twice := [name for name in dict.fromkeys(head) if name and head.count(name) > 1]:
            raise UserError(f"{origin}:1: expected each column once, found {', '.join(twice)} more than once")
        told = tuple(name for name in head if name in beside)
        residues, degrees = _only(head, _sequence, f"{origin}:1", ()), _only(head, targets, f"{origin}:1", told)
        name = next((name for name in _name if name in head), None)
        found = []
        for row in rows:
            where = f"{origin}:{rows.line_num}"
            if not row:
                continue
            if len(row) != len(head):
                raise UserError(f"{where}: expected {len(head)} values, as the header has, found {len(row)}")
            cells: dict[str | None, str] = dict(zip(head, row))
            sequence, value = letters(cells[residues].strip(), where), cells[degrees].strip()
            own, part, mark = (cells.get(column, "") for column in (name, "set", "validation"))
            found.append(_entry(own, sequence, where, value, part, mark, degrees, told))
    except csv.Error as problem:
        where = f"{origin}:{rows.line_num}"
        raise UserError(f"{where}: not a table with {separator!r} between the values ({problem})") from problem
    if not found:
        raise UserError(f"{origin}: holds no sequence; expected a header and one row per sequence")
    return found


def _only(head: list[str], names: Names, where: str, beside: Names) -> str:
    """The one column of ``head`` that is one of ``names``; ``beside``: the columns of another temperature."""
    there = [name for name in head if name in names]
    if len(there) == 1:
        return there[0]
    seen, hint = ", ".join(there or head) or "nothing", "; leave out, or rename, all but the right one" if there else ""
    if beside and not there:
        hint = f" ({', '.join(beside)} is another temperature than that of task.dataset)"
    raise UserError(f"{where}: expected {'one' if there else 'a'} column {' or '.join(names)}, found {seen}{hint}")


def _entry(
    name: str, sequence: str, where: str, value: str, part: str, validation: str, column: str = "", beside: tuple = ()
) -> Entry:
    if not sequence:
        raise UserError(f"{where}: the sequence is empty; expected letters of amino acids")
    part, mark = part.strip().lower(), validation.strip().lower()
    if part not in ("", "train", "test"):
        raise UserError(f"{where}: set is '{part}', expected train or test")
    if mark not in ("", "true", "false"):
        raise UserError(f"{where}: validation is '{mark}', expected true or false")
    return Entry(name.strip(), sequence, where, value, part, mark == "true", column, beside)


def letters(text: str, where: str) -> str:
    """``text`` in capitals; UserError for what is no letter of an amino acid."""
    for position, letter in enumerate(text, start=1):
        if letter not in _known:  # asked before upper(), which makes SS of one letter and I of another alphabet's
            hint = "; leave the stop codon out" if letter == "*" else ""
            what = f"{letter!r} at position {position} stands for no amino acid"
            raise UserError(f"{where}: {what} (expected letters of {LETTERS}){hint}")
    return text.upper()


def number(value: str, where: str, column: str = "") -> float:
    """A temperature in degrees Celsius, written as a plain decimal number; ``column``: where a table has it."""
    found = float(value) if _decimal.fullmatch(value.strip()) else math.nan
    if not coldest <= found <= hottest:
        place = f"fill it in, in the column {column}, or leave" if column else "give it as TARGET=<degrees>, or leave"
        missing = f"; {place} the sequence out" if not value.strip() else ""
        hint = "; is it in Kelvin?" if hottest < found < math.inf else missing
        valid = f"a temperature from {coldest} to {hottest:g} degrees Celsius"
        raise UserError(f"{where}: expected {valid}, found {value!r}{hint}")
    return found


class _Plain(pickle.Unpickler):
    """Knows containers, text and numbers; a pickle that names any class or function is refused, not run."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}; a fold holds lists of names and numbers alone")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it points outside the file; a fold holds lists of names and numbers alone")


def fold(path: Path) -> dict[str, list[tuple[str, float]]]:
    """HotProtein's pickled fold: for train and test, names and labels in the file's order."""
    try:
        content = _Plain(io.BytesIO(files.read(path))).load()
        wanted = [content[f"{part}_{what}"] for part in ("train", "test") for what in ("names", "labels")]
        names, labels = wanted[::2], wanted[1::2]
        good = all(type(values) is list for values in wanted)
        good = good and all(len(n) == len(v) and n for n, v in zip(names, labels))
        good = good and all(type(name) is str for part in names for name in part)
        good = good and all(type(label) in (int, float) for part in labels for label in part)
    except UserError:
        raise
    except Exception as problem:  # a damaged pickle can raise nearly anything; all of it means the same to the user
        why = f"{type(problem).__name__}: {problem}"
        raise UserError(f"{path}: not a pickled fold ({why}){_fold_expected}") from problem
    if not good:
        raise UserError(f"{path}: not a pickled fold{_fold_expected}")
    return {part: list(zip(n, v)) for part, n, v in zip(("train", "test"), names, labels)}


_lists = "train_names, train_labels, test_names and test_labels"
_fold_expected = f"; expected {_lists}, lists of text and of numbers as long"


def folder_of_fasta(path: Path) -> dict[str, Entry]:
    """Sequences by name, from a folder of ``<name>.fasta``, that as ``.tar`` or ``.tar.gz``, or one FASTA file.

    In the first two the file's name is the sequence's, as HotProtein reads them.
    """
    if path.is_dir():
        below = (file for file in sorted(path.glob("*.fasta")) if ending(file))
        members = [(file.stem, str(file), files.read(file)) for file in below]
    elif path.name.endswith((".tar.gz", ".tar")):
        members = _archive(path)
    else:
        return _by_name(fasta(decoded(path), str(path)))
    found: dict[str, Entry] = {}
    for name, origin, content in members:
        entries = fasta(_decoded(content, origin), origin)
        if len(entries) != 1:
            raise UserError(f"{entries[1].where}: expected one sequence per file, found {len(entries)}")
        if name in found:
            raise UserError(f"{origin}: a second file for the protein {name!r}; the first is {found[name].where}")
        found[name] = entries[0]
    if not found:
        raise UserError(f"{path}: expected files <name>.fasta in it, found none")
    return found


def _archive(path: Path) -> list[tuple[str, str, bytes]]:
    """Name, origin and content of the FASTA files in an archive; nothing is unpacked to the disk."""
    # All of it is decompressed first: tarfile stops where the archive ends, before the checksum of the compression.
    content = files.unpacked(files.read(path), path)
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
            found = [
                (Path(member.name).stem, f"{path}/{member.name}", file.read())
                for member in tar
                if member.isfile() and member.name.endswith(".fasta") and ending(Path(member.name))
                if (file := tar.extractfile(member))
            ]
            if content[tar.offset :].strip(b"\0"):  # tarfile takes a damaged header for the archive's end
                raise tarfile.ReadError(f"a damaged header at byte {tar.offset}")
            return found
    except (OSError, EOFError, tarfile.TarError, ValueError) as problem:
        raise UserError(f"{path}: not a whole archive of tar ({problem})") from problem


def _by_name(entries: list[Entry]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for entry in entries:
        if entry.name in found:
            first = found[entry.name].where
            raise UserError(f"{entry.where}: a second sequence of the name {entry.name!r}; the first is {first}")
        found[entry.name] = entry
    return found


def decoded(path: Path) -> str:
    """The text of a file, packed or not."""
    return _decoded(files.unpacked(files.read(path), path), str(path))


def _decoded(content: bytes, origin: str) -> str:
    try:
        return content.decode("utf-8").removeprefix("\ufeff")  # Windows marks the beginning of a file
    except UnicodeDecodeError as problem:
        line = content[: problem.start].count(b"\n") + 1
        raise UserError(f"{origin}:{line}: not text in UTF-8 (byte {content[problem.start]:#04x})") from problem


def _short(line: str) -> str:
    return repr(line if len(line) <= 40 else line[:40] + "...")
