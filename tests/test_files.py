"""Files that other people read: whole, and with the usual permissions."""

import errno
import os
import stat

import pytest
import torch

from glipv2_d2.checkpoint.writing import save_safetensors
from glipv2_d2.files import whole_file, whole_folder


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield 0o640
    os.umask(before)


def test_others_may_read_what_the_umask_allows(tmp_path, umask):
    """A colleague reads the weights, and the index of a data set that lies in a shared folder."""
    with whole_file(tmp_path / "index", "w") as file:
        file.write("0\n")
    weights = save_safetensors({"a": torch.zeros(2)}, tmp_path / "w.safetensors", {})
    assert mode(tmp_path / "index") == mode(weights) == umask


def test_what_goes_wrong_is_told_of_the_file_that_was_asked_for(tmp_path):
    for path, error in ((tmp_path / "no/a", FileNotFoundError), (tmp_path, IsADirectoryError)):
        with pytest.raises(error) as raised, whole_file(path, "w"):
            pass
        assert raised.value.filename == str(path)


def test_a_full_disk_is_told_by_what_did_not_fit(tmp_path):
    """Writing tells no name; other errors of the body are their own."""
    for writer in (whole_file, whole_folder):
        for problem, name in ((errno.ENOSPC, str(tmp_path / "a")), (errno.ECONNRESET, None)):
            with pytest.raises(OSError) as raised, writer(tmp_path / "a"):
                raise OSError(problem, os.strerror(problem))
            assert raised.value.errno == problem and raised.value.filename == name
    assert not os.listdir(tmp_path)


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "index"
    path.write_text("old")
    with pytest.raises(KeyError), whole_file(path, "w") as file:
        file.write("half")
        raise KeyError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["index"]
    with whole_file(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["index"]
