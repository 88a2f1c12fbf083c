"""tools/scaling: what fake tensors count is what real ones take, and the formulas by hand."""

import math
from contextlib import nullcontext

import pytest
import torch
from detectron2.config import instantiate
from torch._subclasses.fake_tensor import FakeTensorMode

from glipv2_d2.modeling import blocks
from glipv2_d2.modeling.text import TextFeatures
from tests.support.tiny import tiny_config, tiny_input
from tools.benchmark.flops import count_flops
from tools.benchmark.settings import Settings, build_model
from tools.scaling import __main__ as scaling
from tools.scaling import curves, memory, processes
from tools.scaling.fake import (
    LiveBytes,
    StepMemory,
    fake_model,
    like_cuda,
    nothing_launched,
    step_memory,
)  # fmt: skip

CONFIG = "tests/support/tiny_detect.py"
ONE_BLOCK = ("model.neck.num_blocks=1",)  # fake tensors take their time


def test_live_bytes_count_a_storage_once_and_while_it_lives():
    before = torch.zeros(1000)
    with LiveBytes([before]) as live:
        same, kept = before[1:], torch.zeros(1000)
        views = kept.view(10, 100)[2:], kept.add_(1)
        freed = kept + 1
        assert (live.now, live.peak) == (8000, 8000)
        del freed
        assert (live.now, live.peak) == (4000, 8000)
        del kept
        assert live.now == 4000
        del views
        assert live.now == 0 and same.shape


def test_a_model_without_values_does_the_work_and_takes_the_memory_of_a_real_one():
    overrides = (*ONE_BLOCK, "model.neck.use_checkpoint=True")
    inputs = [tiny_input(64, 96)]
    memories, works = [], []
    for model in fake_model(CONFIG, overrides), build_model(Settings(CONFIG, overrides)).train():

        def measured(model=model):
            memories.append(step_memory(model, inputs, nullcontext()))

        works.append(count_flops(measured))
    assert works[0] == works[1]
    counted, expected = memories
    # The outputs of its parts are there as fake tensors and as zeros.
    assert counted.kept == pytest.approx(expected.kept, rel=0.05)
    assert counted.peak == pytest.approx(expected.peak, rel=0.05)
    assert counted.kept < counted.peak


@pytest.mark.skipif(not blocks.HAS_TRITON, reason="the kernels need Triton")
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_memory_like_cuda_is_that_of_tensors_that_pretend_to_be_there(precision, monkeypatch):
    """Up to the end of the forward pass, as far as these come without a driver."""

    def kept(device, way):
        config = tiny_config()
        config.neck.update(dropout=0.1, num_blocks=1)
        with torch.device("meta"):
            backbone, neck = (instantiate(config[name]).train() for name in ("backbone", "neck"))
        with FakeTensorMode(allow_non_fake_inputs=True):
            backbone.to_empty(device=device), neck.to_empty(device=device)
            hidden, mask = torch.empty(1, 60, 32, device=device), torch.ones(1, 60, device=device)
            text = TextFeatures(hidden, hidden, mask.bool())
            image = torch.empty(1, 3, 256, 320, device=device)
            with LiveBytes() as live, way:
                outputs = neck(list(backbone(image).values()), text)
        return live.now, outputs

    torch.set_autocast_dtype("cuda", torch.bfloat16)
    torch.set_autocast_enabled("cuda", precision == "bf16")
    try:
        expected, _ = kept("cuda", nothing_launched())
    finally:
        torch.set_autocast_enabled("cuda", False)
    counted, _ = kept("cpu", like_cuda(precision))
    assert counted == pytest.approx(expected, rel=0.01)
    plain, _ = kept("cpu", nullcontext())
    assert abs(plain / expected - 1) > 0.1  # it matters


def test_memory_is_fitted_with_the_terms_that_it_is_made_of(monkeypatch):
    def made(model, inputs, way):
        prompt, (_, height, width) = inputs[0]["prompt"], inputs[0]["image"].shape
        pixels, tokens = height * width, model.tokenizer.num_tokens(prompt.caption)
        of_image = 3e-6 * pixels + 5e-6 * curves.num_positions((height, width)) * tokens
        return StepMemory(kept=1.0, peak=len(inputs) * of_image + 0.5)

    monkeypatch.setattr(memory, "step_memory", made)
    monkeypatch.setattr(memory, "like_cuda", lambda _: nullcontext())
    row = next(memory.measure_memory(Settings(CONFIG, size=(800, 1216))))
    assert (row["precision"], row["recomputed"]) == ("float32", "nothing")
    assert [row[term] for term in memory.TERMS] == pytest.approx([3, 5, 0, 0.5], abs=1e-6)
    assert row["worst"] < 1e-9
    # 20 bytes a parameter, 0.5 and 2 GiB once, and so many images.
    assert row["state"] == pytest.approx(20 * row["parameters"] * 1e6 / 2**30)
    of_image = row["peak"] - 0.5
    assert row["total_4"] == pytest.approx(row["state"] + 4 * of_image + 0.5)
    for card in memory.CARDS:
        images = row[f"fits_{card}"]
        assert images == pytest.approx((card - row["state"] - 2.5) / of_image - 0.5, abs=0.5)


def test_curves_have_the_exponents_of_what_they_count(monkeypatch):
    assert curves.exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2)
    assert curves.num_positions((128, 200)) == 16 * 25 + 8 * 13 + 4 * 7 + 2 * 4 + 1 * 2
    monkeypatch.setattr(curves, "AXES", {"images": (1, 2)})
    settings = Settings(CONFIG, ONE_BLOCK, size=(64, 96), repeats=1)
    row = next(curves.measure_curves(settings))
    assert (row["what"], row["axis"], row["values"]) == ("inference", "images", [1, 2])
    # The text of the one prompt is encoded once.
    assert row["work"] == pytest.approx(math.log2(row["gflop"][1] / row["gflop"][0]), abs=1e-3)
    assert 0.9 < row["work"] < 1
    assert len(row["seconds"]) == 2 and min(row["seconds"]) > 0


def test_points_of_the_curves():
    model, settings = fake_model(CONFIG), Settings(CONFIG, size=(64, 96))
    points = {"positions": 2.0, "tokens": 5, "images": 3, "names": 41}
    found = {a: curves._point(settings, a, value, False, model) for a, value in points.items()}
    assert found["positions"][0] == curves.num_positions((128, 192)) == 512
    assert found["tokens"][0] == model.tokenizer.num_tokens(found["tokens"][1][0]["prompt"].caption)
    assert [len(inputs) for _, inputs in found.values()] == [1, 1, 3, 1]
    assert [len(prompt) for prompt in found["names"][1][0]["prompt"]] == [40, 1]


def test_the_exposed_all_reduce_by_hand(monkeypatch, capsys):
    """100 MiB are four buckets; of 8 processes a ring sends 7/4 of them."""
    size = 100 * 2**20
    ring = 7 / 4 * size / 1e9
    # A slow step hides all but the last bucket, a fast one three quarters of its backward pass.
    assert processes.exposed_all_reduce(9.0, size, 1e9, 8) == pytest.approx(ring / 4)
    exposed = processes.exposed_all_reduce(0.06, size, 1e9, 8)
    assert exposed == pytest.approx(ring - 0.04 * 3 / 4)
    assert processes.exposed_all_reduce(1.0, size, 1e9, 1) == 0
    monkeypatch.setattr(processes, "count_flops", lambda _: {"total": 3.0})
    arguments = ["predict", "--config-file", CONFIG, "--size", "64x96", "--tflops", "0.001"]
    assert scaling.main(arguments) == 0
    _, _, *rows = capsys.readouterr().out.splitlines()
    assert [row.split(" | ")[3:6] for row in rows[:2]] == [
        ["3.000", "NVLink", "2"], ["3.000", "NVLink", "8"],
    ]  # fmt: skip
    assert len(rows) == sum(len(counts) for _, counts in processes.LINKS.values())


def test_the_all_reduce_of_two_processes_is_measured(quick_processes):
    row = processes.measure_processes(Settings(CONFIG, size=(64, 96), repeats=2), 1, 2)
    parameters = sum(p.numel() for p in build_model(Settings(CONFIG)).parameters())
    assert row["gradient_mb"] == pytest.approx(4 * parameters / 1e6)
    assert row["bandwidth_gb"] * 1e3 == pytest.approx(row["gradient_mb"] / row["all_reduce"])
    assert min(row["step"], row["no_sync"], row["all_reduce"]) > 0
    assert row["predicted"] > row["no_sync"]


def test_what_cannot_be_measured_is_one_line(tmp_path, capsys, monkeypatch):
    other = tmp_path / "other.py"
    other.write_text("model = dict(a=1)\n")
    monkeypatch.setattr(blocks, "HAS_TRITON", False)
    for arguments, message in (
        (["curves", "--config-file", str(other)], "describes no GLIP model"),
        (["processes", "--processes", "1"], "give --processes 2 or more"),
        (["memory", "--config-file", CONFIG], "pip install triton"),
    ):
        assert scaling.main(arguments) == 2
        assert message in capsys.readouterr().err
