"""What a killed or failed save leaves, and which file a run then goes on from."""

import errno
import os

import pytest
import torch
from torch import nn

from glipv2_d2.checkpoint import GLIPCheckpointer, find_checkpoint
from glipv2_d2.errors import CheckpointError
from glipv2_d2.files import remove_leftovers, whole_file


def checkpointer(folder):
    torch.manual_seed(0)
    return GLIPCheckpointer(nn.Linear(50, 50), str(folder))


def names(folder):
    return sorted(os.listdir(folder))


def test_a_save_that_is_cut_short_leaves_the_old_file(tmp_path, monkeypatch):
    """As it was: model_final.pth of 20 iterations, overwritten by that of 40, was gone."""
    run = checkpointer(tmp_path)
    run.save("model_final", iteration=19)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch, "save", cut_short)
        run.save("model_final", iteration=39)
    assert names(tmp_path) == ["last_checkpoint", "model_final.pth"]
    assert find_checkpoint(tmp_path) == (str(tmp_path / "model_final.pth"), 19)


def cut_short(content, file):
    file.write(b"PK")
    raise KeyboardInterrupt


def test_what_a_kill_leaves_is_removed(tmp_path):
    pid = os.fork()
    if not pid:  # dies amid the save: no exception handler, no exit handler
        with whole_file(tmp_path / "model_final.pth") as file:
            file.write(b"half")
            os._exit(9)
    os.waitpid(pid, 0)
    (tmp_path / ".hidden.tmp").touch()  # somebody else's
    (left,) = set(names(tmp_path)) - {".hidden.tmp"}
    assert find_checkpoint(tmp_path) is None
    assert remove_leftovers(tmp_path) == [left] and left.startswith(".model_final.pth.")
    assert names(tmp_path) == [".hidden.tmp"]


def test_a_full_disk_is_one_error_and_the_old_file_stays(tmp_path, monkeypatch):
    run = checkpointer(tmp_path)
    run.save("model_final", iteration=19)
    before = (tmp_path / "model_final.pth").read_bytes()
    write = torch.serialization._save

    def full(content, archive, *args):
        write(content, archive, *args)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch.serialization, "_save", full)
    with pytest.raises(CheckpointError, match="model_final.pth' cannot be written .No space left"):
        run.save("model_final", iteration=39)
    assert (tmp_path / "model_final.pth").read_bytes() == before
    assert names(tmp_path) == ["last_checkpoint", "model_final.pth"]
    monkeypatch.setattr(torch.serialization, "_save", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # an error of the program is not the disk's
        run.save("model_final", iteration=39)


def damage(path, part):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])


@pytest.mark.parametrize("part", [0, 0.5, 0.99])
def test_the_newest_whole_file_takes_the_place_of_a_damaged_one(tmp_path, caplog, part):
    run = checkpointer(tmp_path)
    for iteration in (4, 9, 14):
        run.save(f"model_{iteration:07d}", iteration=iteration)
    assert find_checkpoint(tmp_path).iteration == 14
    damage(tmp_path / "model_0000014.pth", part)
    found = find_checkpoint(tmp_path)
    assert found == (str(tmp_path / "model_0000009.pth"), 9)
    assert "goes on from" in caplog.text and "model_0000014.pth" in caplog.text
    again = checkpointer(tmp_path)
    nn.init.zeros_(again.model.weight)
    again.resume_or_load("", resume=True)  # a loop of Detectron2's
    assert torch.equal(again.model.weight, run.model.weight)


def test_a_user_may_go_back_by_last_checkpoint(tmp_path):
    run = checkpointer(tmp_path)
    for iteration in (4, 9):
        run.save(f"model_{iteration:07d}", iteration=iteration)
    run.tag_last_checkpoint("model_0000004.pth")
    assert find_checkpoint(tmp_path).iteration == 4
    (tmp_path / "last_checkpoint").unlink()  # killed between the first checkpoint and its name
    assert find_checkpoint(tmp_path).iteration == 9


def test_weights_alone_are_not_gone_on_from(tmp_path):
    torch.save({"model": {"weight": torch.zeros(2)}}, tmp_path / "model_raw.pth")
    assert find_checkpoint(tmp_path) is None


def test_when_nothing_is_whole_each_file_is_named(tmp_path):
    assert find_checkpoint(tmp_path) is None
    run = checkpointer(tmp_path)
    run.save("model_0000004", iteration=4)
    damage(tmp_path / "model_0000004.pth", 0.5)
    run.tag_last_checkpoint("model_0000009.pth")
    with pytest.raises(CheckpointError, match="no whole checkpoint.*0000009.pth'.*0000004.pth'"):
        find_checkpoint(tmp_path)
