"""Marks and checksums of files: what changes with them, and what is read again."""

import gzip
import hashlib

import pytest

from common.data import files
from common.errors import UserError


def test_a_checksum_is_of_names_sizes_and_contents(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"abc"), two.write_bytes(b"")
    assert files.checksum([one, two]) == hashlib.sha256(b"one 3\nabctwo 0\n").hexdigest()
    assert files.checksum(iter([two, one])) == hashlib.sha256(b"two 0\none 3\nabc").hexdigest()
    assert files.checksum([]) == ""
    with pytest.raises(UserError, match=f"{tmp_path}/three: cannot be read .*expected a file"):
        files.checksum([one, tmp_path / "three"])


def test_a_file_replaced_by_one_of_its_size_is_read_again(tmp_path, monkeypatch):
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"abc"), other.write_bytes(b"abd")
    mark, before = files.mark(path), files.checksum([path])
    monkeypatch.setattr(files, "_digest", None)  # nothing is read twice
    assert files.mark(path) == mark and files.checksum([path]) == before
    monkeypatch.undo()
    other.rename(path)
    assert files.mark(path) != mark and files.checksum([path]) != before
    path.unlink()
    assert files.mark(path) == (str(path),)


def test_md5_of_what_is_packed_and_of_what_cannot_be_read(tmp_path):
    plain, packed = tmp_path / "a", tmp_path / "a.gz"
    plain.write_bytes(b"abc"), packed.write_bytes(gzip.compress(b"abc"))
    assert files.md5(plain) == files.md5(packed, gzip.open) == "900150983cd24fb0d6963f7d28e17f72"  # RFC 1321, A.5
    packed.write_bytes(packed.read_bytes()[:-3])
    assert files.md5(packed, gzip.open) == files.md5(plain, gzip.open) == files.md5(tmp_path / "b") == ""
