"""What ends a command in one line, and what keeps its traceback."""

import errno
import re
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
import torch
from torch.multiprocessing import ProcessRaisedException

from glipv2_d2 import errors
from glipv2_d2.data.report import RecordError
from glipv2_d2.errors import (
    CheckpointError,
    DataError,
    PromptTooLongError,
    UserError,
    command,
    hand_over,
    handed_over,
    user_message,
    well_formed,
)

ROOT = Path(__file__).resolve().parents[1]
ERRORS = {
    "prompt": PromptTooLongError("304 tokens, the limit is 256"),
    "lines": DataError("2 files are missing:\n  a\n  b: OSError: no"),
    "record": RecordError("kind", "a.json, image 3", "its caption is empty"),
    "missing": FileNotFoundError(errno.ENOENT, "No such file or directory", "a.jpg"),
    "full": OSError(errno.ENOSPC, "No space left on device", "out/model.pth"),
    "bug": KeyError("image_id"),
    "caused": None,  # a bug while a user's error was dealt with
}


def raise_error(kind):
    if kind == "caused":
        try:
            raise ERRORS["lines"]
        except DataError:
            raise KeyError("image_id")  # noqa: B904  (that is the case)
    raise ERRORS[kind]


class Faulty(torch.utils.data.Dataset):
    def __init__(self, kind):
        self.kind = kind

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise_error(self.kind)


EXPECTED = {
    "prompt": "304 tokens, the limit is 256",
    "lines": "2 files are missing:\n  a\n  b: OSError: no",
    "record": "a.json, image 3: its caption is empty",
    "missing": "No such file or directory: 'a.jpg'",
    "full": "No space left on device: 'out/model.pth'",
    "bug": None,
    "caused": None,
}


@pytest.mark.parametrize("kind", ERRORS)
def test_the_message_of_an_error_raised_here(kind):
    with pytest.raises(Exception) as raised:
        raise_error(kind)
    assert user_message(raised.value) == EXPECTED[kind]


@pytest.mark.parametrize("kind", ERRORS)
def test_the_message_of_an_error_raised_in_a_data_worker(kind):
    """PyTorch makes a traceback of it, and another kind of those it cannot build again."""
    with pytest.raises(Exception, match="Traceback") as raised:
        next(iter(torch.utils.data.DataLoader(Faulty(kind), num_workers=1)))
    found, expected = user_message(raised.value), EXPECTED[kind]
    # Of an OSError only the text is left.
    assert found == expected or (kind in ("missing", "full") and found.startswith("[Errno "))


@pytest.mark.parametrize("kind", ERRORS)
def test_the_message_of_an_error_raised_in_a_spawned_process(kind):
    with pytest.raises(Exception) as raised:
        hand_over(raise_error, kind)
    text = "".join(traceback.format_exception(raised.value))
    spawned = ProcessRaisedException(f"\n\n-- Process 0 terminated:\n{text}", 0, 1)
    handed = handed_over(spawned)
    if EXPECTED[kind] is None:
        assert handed is None and "KeyError: 'image_id'" in text
        return
    assert str(handed) == EXPECTED[kind]
    assert type(handed) is {
        "prompt": PromptTooLongError, "lines": DataError, "record": DataError
    }.get(kind, UserError)  # fmt: skip


def test_an_optional_package_is_named_with_its_remedy():
    error = ModuleNotFoundError("No module named 'skimage.io'", name="skimage.io")
    assert user_message(error).endswith("pip install 'glipv2_d2[demo]'")
    assert user_message(ModuleNotFoundError("No module named 'foo'", name="foo")) is None


def test_every_extra_is_one_of_setup():
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    for extra in set(errors._EXTRAS.values()):
        assert re.search(rf'^        "{extra}": ', setup, re.MULTILINE)


def test_a_command_ends_in_one_line(capsys):
    @command
    def main(kind):
        raise_error(kind)

    assert main("prompt") == 2
    assert capsys.readouterr().err == "error: 304 tokens, the limit is 256\n"
    with pytest.raises(KeyError):
        main("bug")


def test_a_command_that_is_interrupted(capsys):
    @command
    def main():
        raise KeyboardInterrupt

    assert main() == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("lines", [3, 100_000])
def test_a_reader_that_goes_away_is_no_traceback(tmp_path, lines):
    """Whether it is noticed at the end, or in the midst of the writing."""
    code = (
        "import sys, importlib.util\n"
        f"spec = importlib.util.spec_from_file_location('errors', {errors.__file__!r})\n"
        "errors = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(errors)\n"
        "def main():\n"
        "    sys.stdin.readline()\n"  # waits until the reader has gone
        f"    for line in range({lines}): print(line)\n"
        "sys.exit(errors.command(main)())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    process.stdout.close()
    process.stdin.write("go\n")
    process.stdin.flush()
    assert process.wait(30) == 141
    assert process.stderr.read() == ""


def test_a_file_of_another_form():
    with pytest.raises(DataError, match=r"^'a.json' is not in the expected form: KeyError\('id'\)"):
        with well_formed("'a.json'"):
            {}["id"]
    with pytest.raises(CheckpointError):  # what says itself what is wrong, passes
        with well_formed("'a.json'"):
            raise CheckpointError("damaged")


@pytest.mark.parametrize(
    "path",
    sorted(
        path.relative_to(ROOT).as_posix()
        for path in [*ROOT.glob("tools/**/*.py"), *ROOT.glob("datasets/*.py")]
        if '\nif __name__ == "__main__":\n' in path.read_text(encoding="utf-8")
    ),
)
def test_every_command_is_one(path):
    text = (ROOT / path).read_text(encoding="utf-8")
    assert "@command\n" in text
    assert text.endswith("    sys.exit(main())\n")
