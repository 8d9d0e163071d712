"""Marks and checksums of files: what changes with them, and what is read again."""

import bz2
import gzip
import hashlib
import lzma

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


def test_md5(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert files.md5(tmp_path / "a") == files.md5_of(b"ab", b"c") == "900150983cd24fb0d6963f7d28e17f72"  # RFC 1321, A.5
    assert files.md5(tmp_path / "b") == ""


def test_what_is_packed_says_so_itself_and_not_its_name():
    for pack in (gzip.compress, bz2.compress, lzma.compress):
        packed = pack(b"abc" * 99)
        assert files.unpacked(packed, "any") == b"abc" * 99
        with pytest.raises(UserError, match=r"any: not a whole compressed file .*fetch it again"):
            files.unpacked(packed[:-3], "any")
    assert files.unpacked(b"plain", "a.gz") == b"plain" and files.unpacked(b"", "a.gz") == b""
