"""Bytes by offset out of large files: rows, indices of rows, and many files at once."""

import base64
import os
import threading

import pytest

from glipv2_d2.data.containers import (
    TSV,
    ImageSource,
    image_bytes,
    read_bytes,
    read_row,
    row_offsets,
)
from glipv2_d2.errors import DataError


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_rows_of_any_length(tmp_path, end):
    """Rows are read in pieces of 256 KiB; the last one may end with the file."""
    path = tmp_path / "a.tsv"
    rows = [["a", "x" * 300_000], ["b", ""], ["c", "y" * 700_000]]
    text = (end or "\n").join("\t".join(row) for row in rows) + end
    path.write_bytes(text.encode())
    for _ in range(2):  # scanned, and from the index
        offsets = row_offsets(str(path))
        assert len(offsets) == 3 and path.with_suffix(".lineidx").exists()
        found = [[c.decode() for c in read_row(str(path), int(offset))] for offset in offsets]
        assert found == rows
    for offset in (-1, 1, len(text)):
        with pytest.raises(DataError, match=f"no row begins at byte {offset}"):
            read_row(str(path), offset)


def test_an_empty_file_has_no_rows(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(b"")
    assert [len(row_offsets(str(path))) for _ in range(2)] == [0, 0]
    path.write_bytes(b"a\tb\n")
    path.with_suffix(".lineidx").write_bytes(b"0\n1.5\n")
    with pytest.raises(DataError, match=r"a\.lineidx: not a byte offset a line.*is made anew"):
        row_offsets(str(path))
    with pytest.raises(DataError, match="there is no file"):
        row_offsets(str(tmp_path / "b.tsv"))


def test_more_files_than_are_kept_open(tmp_path):
    paths = [tmp_path / str(i) for i in range(70)]
    for path in paths:
        path.write_text(path.name)
    before = len(os.listdir("/proc/self/fd"))
    for path in (*paths, paths[0]):
        assert read_bytes(str(path), 0, len(path.name)).decode() == path.name
    assert len(os.listdir("/proc/self/fd")) <= before + 64
    with pytest.raises(
        DataError, match="9 bytes are expected at byte 1, but the file ends after 1"
    ):
        read_bytes(str(paths[69]), 1, 9)
    with pytest.raises(DataError, match="there is no file"):
        read_bytes(str(tmp_path / "none"), 0, 1)


def test_threads_that_have_ended_keep_nothing_open(tmp_path):
    """As those that look at the headers of a test set's images."""
    paths = [tmp_path / str(i) for i in range(10)]
    for path in paths:
        path.write_text(path.name)

    def read():
        assert [read_bytes(str(path), 0, 1).decode() for path in paths] == list("0123456789")

    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
    assert len(os.listdir("/proc/self/fd")) <= before + len(paths)


def test_an_image_row_says_whose_it_is(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(b"k\t" + base64.b64encode(b"image") + b"\n")
    assert image_bytes(ImageSource(TSV, str(path), 0, 0, "k")) == b"image"
    assert image_bytes(ImageSource(TSV, str(path), 0, 0, "")) == b"image"  # not compared
    with pytest.raises(DataError, match="has the key 'k', expected 'j'"):
        image_bytes(ImageSource(TSV, str(path), 0, 0, "j"))


def test_a_text_of_base64_within_a_file(tmp_path):
    path = tmp_path / "a.json"
    text = base64.b64encode(b"image")
    path.write_bytes(b'{"imageData": "' + text + b'"}')
    assert image_bytes(ImageSource("base64", str(path), 15, len(text), "")) == b"image"
    with pytest.raises(DataError, match="a.json is no base64"):
        image_bytes(ImageSource("base64", str(path), 14, len(text), ""))
