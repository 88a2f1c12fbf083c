"""`glip label` of image-text pairs, from files to files that are trained on."""

import json
import sys

import pytest

from glip_commands.main import main
from tests.support.stand_in_teacher import contents, write_pairs

CONFIG = "tests/support/tiny_detect.py"


@pytest.fixture
def run_pairs(tiny_weights, tmp_path):
    """run(files and options) into `out`; options are added to those of a tiny teacher."""

    def _run(*arguments, output=tmp_path / "out"):
        model = ["--config-file", CONFIG, "--weights", str(tiny_weights), "--format", "tsv"]
        return main(["label", *map(str, arguments), *model, "--output", str(output)])

    return _run


def test_pairs_become_labels_and_the_same_command_goes_on(run_pairs, tmp_path, capsys):
    table = write_pairs(tmp_path / "in", "csv")
    write_pairs(tmp_path / "in", "tar")
    (tmp_path / "in/1.jpg").write_bytes(b"no picture")
    (tmp_path / "in/0.jpg").unlink()
    arguments = (table, tmp_path / "in/*.tar", "--rows", "2", "--batch-size", "2")
    assert run_pairs(*arguments) == 1
    told = capsys.readouterr()
    assert "failed: pairs-00000: " in told.err and "none of 2 pairs is usable" in told.err
    assert "1 of 3 shards failed (the same command tries them again): pairs-00000" in told.err
    assert "[3/3] pairs: 4 of 4 pairs" in told.out and "6 of 6 pairs labeled: " in told.out
    assert "2 captions without a phrase" not in told.out.splitlines()[0]
    first = contents(tmp_path / "out")
    write_pairs(tmp_path / "in", "csv")
    assert run_pairs(*arguments) == 0
    assert "2 of 3 shards have labels already" in capsys.readouterr().out
    after = contents(tmp_path / "out")
    assert first.items() < after.items()
    manifest = json.loads(after["pairs/manifest.json"])
    assert manifest["settings"]["threshold"] == 0.1
    assert manifest["settings"]["teacher"]["weights"].startswith("tiny.safetensors ")
    assert run_pairs(*arguments, "inference.min_size=32") == 2
    assert "was labeled with config 'tiny_detect.py " in capsys.readouterr().err


def test_several_processes_are_one_command(run_pairs, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("glipv2_d2.labeling.drivers.START_METHOD", "fork")
    table = write_pairs(tmp_path / "in", "csv")
    assert run_pairs(table, "--rows", "2") == 0
    assert run_pairs(table, "--rows", "2", "--processes", "2", output=tmp_path / "two") == 0
    assert contents(tmp_path / "two") == contents(tmp_path / "out")


def test_ray_is_an_extra(run_pairs, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run_pairs(write_pairs(tmp_path / "in", "csv"), "--ray") == 2
    assert "pip install 'glipv2_d2[ray]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["gone.csv"], "there is no file 'gone.csv'"),
        (["a=b"], "nothing is given to label"),
        (["setup.py"], "'setup.py' holds no pairs that are known by its name"),
        (["setup.py", "--register", "a.py"], "--register is for questions"),
        (["setup.py", "--columns", "a"], "--columns are two, IMAGE,CAPTION, got a"),
        (["setup.py", "--threshold", "7"], "--threshold must be a number in"),
        (["setup.py", "--phrases", "mine"], "unknown noun-phrase extractor 'mine'"),
    ],
)
def test_refused(options, message, run_pairs, capsys, tmp_path):
    assert run_pairs(*options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_table_without_rows_is_refused(run_pairs, capsys, tmp_path):
    (tmp_path / "pairs.csv").write_text("path,caption\n")
    assert run_pairs(tmp_path / "pairs.csv") == 2
    assert "pairs.csv: nothing to label" in capsys.readouterr().err


def test_options_of_pairs_are_refused_for_questions(tiny_weights, capsys, tmp_path):
    model = ["--config-file", CONFIG, "--weights", str(tiny_weights)]
    for options in (["--rows", "3"], ["--processes", "2"], ["--recaption"]):
        arguments = ["label", "name", *model, "--output", str(tmp_path / "a.json"), *options]
        assert main(arguments) == 2
        assert f"{options[0]} is for pairs, with a --format" in capsys.readouterr().err
