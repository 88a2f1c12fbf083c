"""tools/gpu_check.sh with an interpreter that only notes what it is asked for, and its report."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools import gpu_pack, gpu_report

ROOT = Path(__file__).resolve().parents[2]
PARTS = [
    "tests", "parity", "speed", "graphs", "lvis", "steps", "profile", "agreement", "shortlist",
    "train", "memory", "names", "precision",
]  # fmt: skip


@pytest.fixture
def check(tmp_path):
    """Runs the script. FAILS, HANGS: part of a command that then ends with status 3, or never."""
    python = tmp_path / "python"
    calls = tmp_path / "calls"
    python.write_text(
        f'#!/usr/bin/env bash\necho "$*" >>"{calls}"\n[ -n "$HANGS" ] && [[ $* == *$HANGS* ]] && '
        'sleep 600\n[ -n "$FAILS" ] && [[ $* == *$FAILS* ]] && exit 3\nexit 0\n'
    )
    python.chmod(0o755)

    def run(**environment):
        calls.write_text("")
        environment = {"DEVICE": "cpu", "HANGS": "", "FAILS": "", **environment}
        done = subprocess.run(
            [ROOT / "tools" / "gpu_check.sh"], capture_output=True, text=True, timeout=120,
            env={**os.environ, "OUT": str(tmp_path / "out"), "PYTHON": str(python), **environment},
        )  # fmt: skip
        return done, calls.read_text()

    return run


def test_a_failed_part_is_told_and_only_it_is_run_again(check):
    done, calls = check(FAILS="tools.parity")
    assert done.returncode == 1 and "parity: FAILED with status 3, see" in done.stdout
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == PARTS
    for words in ("-m gpu tests/", "train.max_iter=200", "--batch 1,8,32", "precision=fp16"):
        assert words in calls, words
    done, calls = check()
    assert done.returncode == 0 and "parity: passed" in done.stdout
    assert "tools.parity" in calls and "train_net.py" not in calls
    assert done.stdout.count("done before") == len(PARTS) - 1
    done, calls = check(PARTS="lvis")
    assert "--only lvis" in calls and "tools.parity" not in calls


def test_a_part_that_hangs_is_ended_and_the_rest_waits(check):
    done, _ = check(HANGS="tools.parity", LIMIT="4")
    assert done.returncode == 1 and "parity: FAILED" in done.stdout
    assert "speed: no time left" in done.stdout and "tests: passed" in done.stdout


def test_a_device_that_is_not_there(tmp_path):
    done = subprocess.run(
        [ROOT / "tools" / "gpu_check.sh"], capture_output=True, text=True,
        env={**os.environ, "OUT": str(tmp_path), "DEVICE": "cuda:99", "PYTHON": sys.executable},
    )  # fmt: skip
    assert done.returncode == 2
    assert "the device 'cuda:99'" in done.stderr and "Traceback" not in done.stderr


def write_metrics(folder, losses):
    folder.mkdir(parents=True)
    lines = [json.dumps({"iteration": i, "total_loss": v}) for i, v in losses.items()]
    (folder / "metrics.json").write_text("\n".join([json.dumps({"iteration": 0}), *lines]))


@pytest.fixture
def reference(tmp_path, monkeypatch):
    """Of a training on a CPU: from 3 down to 1."""
    path = tmp_path / "reference.json"
    monkeypatch.setattr(gpu_report, "REFERENCE", path)
    losses = {i: 3.0 - i / 100 for i in range(9, 200, 10)}
    write_metrics(tmp_path / "cpu", losses)
    assert gpu_report.main([str(tmp_path), "--cpu-losses", str(tmp_path / "cpu")]) == 0
    return losses


@pytest.mark.parametrize(
    ("change", "agrees"),
    [
        (lambda i, v: v, True),
        (lambda i, v: v * (1 + i / 4000), True),  # 5 % in the end
        (lambda i, v: v * 1.03, False),  # from the first step on
        (lambda i, v: max(v, 1.8), False),  # it stops learning
    ],
)
def test_losses_are_compared_with_the_cpus(tmp_path, reference, change, agrees):
    out = tmp_path / "out"
    write_metrics(out / "train", {i: change(i, v) for i, v in reference.items()})
    (out / "parts").mkdir()
    (out / "parts" / "train").write_text("0 81\n")
    assert gpu_report.main([str(out), "--device", "cpu"]) == (0 if agrees else 1)
    report = json.loads((out / "gpu_check.json").read_text())
    assert report["training"]["agrees"] is agrees
    page = (out / "gpu_check.md").read_text()
    assert ("DOES NOT AGREE" in page) is not agrees
    assert "| train | passed | 81 |" in page


@pytest.mark.parametrize("sets", [("",), ("val", "novel")])
def test_what_precision_costs_is_a_table(tmp_path, reference, sets):
    tables = {name: {"bbox": {"AP": 68.478, "AP50": 84.7, "AP-red star": 1.0}} for name in sets}
    folder = tmp_path / "precision_bf16"
    folder.mkdir()
    (folder / "last_results.json").write_text(json.dumps(tables.get("", tables)))
    assert gpu_report.main([str(tmp_path), "--device", "cpu"]) == 0
    page = (tmp_path / "gpu_check.md").read_text()
    for name in sets:
        assert f"| bf16 | {name} | 68.48 | 84.70 |" in page


def test_a_failed_part_shows_the_end_of_its_log(tmp_path, reference):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "speed").write_text("1 12\n")
    (tmp_path / "parts" / "speed.log").write_text("much\nCUDA error: no kernel\n")
    (tmp_path / "parts" / "precision").write_text("77 1\n")
    assert gpu_report.main([str(tmp_path), "--device", "cpu"]) == 1
    page = (tmp_path / "gpu_check.md").read_text()
    assert "| speed | failed | 12 |" in page and "CUDA error: no kernel" in page
    assert "| precision | skipped | 1 |" in page


def test_the_stored_losses_are_those_of_the_check():
    losses = json.loads(gpu_report.REFERENCE.read_text())["losses"]
    assert list(map(int, losses)) == list(range(9, 200, 10))
    assert losses["199"] < 0.85 * losses["9"]


def test_what_is_packed_imports_and_holds_no_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_pack, "install_compiled", lambda *_: None)  # from the package index
    assert gpu_pack.main([str(tmp_path / "pack"), "--python-version", "3.12"]) == 0
    code = (
        "import detectron2.engine, fvcore; print(detectron2.__file__, fvcore.__file__); "
        "from glipv2_d2.language.tokenizer import PromptTokenizer; "
        "print(PromptTokenizer.from_pretrained('minilm').num_tokens('a red star'))"
    )
    path = f"{tmp_path / 'pack'}{os.pathsep}{ROOT}"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(str(tmp_path / "pack")) == 2 and done.stdout.split()[-1] == "5"
    assert not list((tmp_path / "pack").rglob("*.safetensors"))
    # Of a package that the machine has, a part would hide the whole.
    assert not {"skimage", "sklearn", "transformers", "torch"} & set(os.listdir(tmp_path / "pack"))
    with pytest.raises(SystemExit):
        gpu_pack.main([str(tmp_path / "pack"), "--python-version", "3.12"])
