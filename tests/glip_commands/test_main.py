"""`glip` itself: quick help, completion, how it ends, and its names of 0.1."""

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from glip_commands.command import DEFAULT_MODEL, PackageCommand
from glip_commands.main import glip, main, renamed
from glipv2_d2.config import resolve_config
from glipv2_d2.errors import DataError
from glipv2_d2.language.prompt_text import PROMPT_KINDS
from glipv2_d2.model_zoo import find_model
from tests.support.documented import command_lines

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
    done = run(
        "-m", "glip_commands", _GLIP_COMPLETE="bash_complete", COMP_WORDS="glip ins", COMP_CWORD="1"
    )
    assert done.stdout.splitlines()[0] == "plain,inspect", done.stderr
    assert completed("train", "--res") == ["--resume"]


def completed(*words, kind="plain"):
    """What a shell offers for the last word."""
    completion = ShellComplete(glip, {}, "glip", "_GLIP_COMPLETE")
    found = completion.get_completions(list(words[:-1]), words[-1])
    return [item.value for item in found if item.type == kind]


@pytest.mark.parametrize(
    "name", ["train", "eval", "lr-find", "finetune", "detect", "ask", "caption", "index", "label",
             "export", "odinw", "few-shot"]
)  # fmt: skip
def test_completion_knows_models_and_configs(name):
    assert completed(name, "--model", "glip_s") == ["glip_scenes"]
    assert completed(name, "--weights", "glipv2") == ["glipv2_scenes"]
    configs = completed(name, "--config-file", "demo/scenes_")
    assert "demo/scenes_resnet.py" in configs and all(map(resolve_config, configs))
    assert not completed(name, "--config-file", "common/")
    for option in ("--config-file", "--weights"):  # and files of one's own
        assert completed(name, option, "my", kind="file") == ["my"]


def test_completion_knows_recipes():
    assert completed("eval", "--eval", "eval/lvis_m") == ["eval/lvis_minival.py"]
    assert completed("train", "--tune", "finetune/od") == ["finetune/odinw.py"]


def test_a_mistyped_name_of_a_model_has_a_suggestion(capsys):
    assert main(["export", "--model", "glip_sceens", "--output", "out"]) == 2
    assert "'glip_sceens' (did you mean 'glip_scenes'?); there are" in capsys.readouterr().err


def test_every_command_is_in_a_section_of_the_help_page(capsys):
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out.split("Options:")[1]
    assert sorted(re.findall(r"^  ([a-z][a-z0-9-]*) {2,}\S", listed, re.M)) == NAMES


def test_the_version(capsys):
    from importlib.metadata import version

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"glip, version {version('glipv2_d2')}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fly"], "error: No such command 'fly'. (see glip --help)"),
        (["detct"], "error: No such command 'detct'. Did you mean 'detect'? (see glip --help)"),
        (["train", "--wieghts"], "error: No such option '--wieghts'. "),
        (["detect"], "error: Missing argument 'IMAGE|FOLDER|VIDEO|ARCHIVE|URL|KEY=VALUE'. (see"),
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
    assert "Use a model:" in capsys.readouterr().out


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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "model: glipv2_scenes, of the demo; --model NAME gives another\n"),
        (["--model", "glip_scenes"], ""),
    ],
)
def test_a_model_is_found_before_a_command_begins(words, said, monkeypatch, capsys):
    given = []
    monkeypatch.setattr("glipv2_d2.cli.caption.run", lambda args: given.append(args) or 0)
    assert main(["caption", "photo.jpg", *words]) == 0
    assert capsys.readouterr().err == said
    found = find_model(words[-1] if words else DEFAULT_MODEL)
    assert (given[0].config_file, given[0].weights) == found


def test_a_command_that_has_no_default_asks_for_a_model(capsys):
    assert main(["export", "--output", "out"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: no weights are given: --model NAME")
    assert printed.count("\n") == 1


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
    return [(where, words) for where, text in texts for words in command_lines(text)]


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


@pytest.mark.parametrize(
    "own, expected",
    [
        ({}, {"GOMP_SPINCOUNT": "10000"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
    ],
)
def test_threads_wait_briefly_unless_told_otherwise(monkeypatch, own, expected):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(sys.modules, "torch", None)  # it would read them: too late
    assert main(["--version"]) == 0
    assert {k: v for k, v in os.environ.items() if k in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")} == (
        expected
    )
