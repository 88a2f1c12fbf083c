"""`glip` itself: quick help, completion, how it ends, and its names of 0.1."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from glip_commands.command import PackageCommand
from glip_commands.main import glip, main, renamed
from glipv2_d2.errors import DataError
from glipv2_d2.language.prompt_text import PROMPT_KINDS

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(glip.commands)
PAGES = [ROOT / "README.md", ROOT / "datasets" / "README.md", *(ROOT / "docs").glob("*.md")]


def run(*arguments, **environment):
    """A Python of its own in the clone."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", *arguments], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip


def test_help_imports_nothing_that_is_slow():
    code = (
        "import atexit, sys; from glip_commands.main import glip, main\n"
        "slow = {'torch', 'detectron2', 'glipv2_d2', 'numpy'}\n"
        "atexit.register(lambda: print(slow & set(sys.modules)))\n"
        "for name in ['', *glip.commands]: main([*filter(None, [name]), '--help'])\n"
    )
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("\nset()\n")
    # argparse writes the last one's, and ends the process.
    assert done.stdout.count("Usage: glip") == len(NAMES)
    assert "usage: glip install-detectron2" in done.stdout


def test_completion_knows_commands_and_options():
    for words, expected in (("glip in", "plain,inspect"), ("glip train --res", "plain,--resume")):
        done = run(
            "-m", "glip_commands", _GLIP_COMPLETE="bash_complete", COMP_WORDS=words,
            COMP_CWORD=str(len(words.split()) - 1),
        )  # fmt: skip
        assert done.stdout.splitlines()[0] == expected, done.stderr


def test_the_version(capsys):
    from importlib.metadata import version

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"glip, version {version('glipv2_d2')}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fly"], "error: No such command 'fly'. (see glip --help)"),
        (["detect"], "error: Missing argument 'IMAGE|FOLDER|URL|KEY=VALUE'. (see glip detect --h"),
        (["train", "--fast"], "error: No such option '--fast'. (see glip train --help)"),
        (["eval", "--num-gpus", "x"], "error: Invalid value for '--num-gpus': 'x' is not a valid"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments, message, capsys):
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(message) and printed.err.count("\n") == 1 and not printed.out


def test_without_arguments_it_helps(capsys):
    assert main([]) == 0
    assert "Commands:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [(DataError("no boxes"), 2, "error: no boxes\n"), (KeyboardInterrupt(), 130, "interrupted\n")],
)
def test_how_a_command_ends(error, status, said, monkeypatch, capsys):
    def fail():
        raise error

    monkeypatch.setitem(glip.commands, "fail", PackageCommand("fail", callback=fail))
    assert main(["fail"]) == status
    assert capsys.readouterr().err == said


def test_a_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.setitem(glip.commands, "bug", PackageCommand("bug", callback=lambda: {}["id"]))
    with pytest.raises(KeyError):
        main(["bug"])


@pytest.mark.parametrize("name", ["detect", "export"])
def test_the_kinds_of_a_prompt_are_all_offered(name):
    (kind,) = (option for option in glip.commands[name].params if option.name == "kind")
    assert tuple(kind.type.choices) == PROMPT_KINDS


def documented():
    """Every `glip` command line of the pages and of the help texts: (where, words)."""
    texts = [
        (path.name, block)
        for path in PAGES
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```", path.read_text(), re.M | re.S)
        if language != "python"
    ]
    texts += [(f"glip {name}", glip.commands[name].help or "") for name in NAMES]
    for where, text in texts:
        for line in re.sub(r"\\\n *", "", text).splitlines():
            line = re.sub(r"  +\w.*$", "", line.strip())  # what an example is followed by
            if line.startswith("glip "):
                yield where, shlex.split(line, comments=True)[1:]


@pytest.mark.parametrize(
    ("where", "words"),
    [pytest.param(*d, id=f"{d[0]}: {' '.join(d[1])[:70]}") for d in documented()],
)
def test_a_documented_command_line_is_one(where, words):
    name, *arguments = words
    missing = ("...", "IMAGE")  # of a shortened example
    try:
        glip.commands[name].make_context(f"glip {name}", [a for a in arguments if a != "..."])
    except click.MissingParameter:
        assert set(missing) & set(arguments), words


@pytest.mark.parametrize("name", ["glip-detect", "glip-install-detectron2"])
def test_scripts_of_0_1_work_and_warn(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"/usr/bin/{name}", "--help"])
    try:
        assert renamed() == 0
    except SystemExit as end:  # of argparse
        assert end.code == 0
    printed = capsys.readouterr()
    assert printed.err.startswith(f"warning: {name} is called `glip {name[5:]}` now")
    assert "sage: glip" in printed.out


@pytest.mark.parametrize(
    ("old", "new"),
    [("detect", "glip detect"), ("verify_parity", "python -m tools.parity")],
)
def test_tools_of_0_1_work_and_warn(old, new, tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / f"{old}.py", "--help"], cwd=tmp_path,
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("warning: ") and f"is called `{new}` now" in done.stderr
    assert "usage: " in done.stdout.lower()


def test_every_tool_of_0_1_is_there():
    code = (ROOT / "tools" / "_renamed.py").read_text().split("old =")[0]
    scope = {}
    exec(code, scope)
    links = {path.stem for path in (ROOT / "tools").glob("*.py") if path.is_symlink()}
    assert links == set(scope["MODULES"])
    for module, *words in scope["MODULES"].values():
        assert not words or words[0] in glip.commands
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file() or (
            ROOT / module.replace(".", "/") / "__main__.py"
        ).is_file()
