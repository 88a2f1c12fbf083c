"""tools/benchmark: the official arrangement equals the model, and numbers are measurements."""

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from detectron2.config import instantiate
from detectron2.structures import Boxes, Instances
from torch import nn
from torchvision.ops import deform_conv2d

from glipv2_d2.config import get_config
from glipv2_d2.errors import ConfigError, PromptError
from glipv2_d2.language import Prompt
from tests.support.tiny import tiny_glipv2_config, tiny_input, tiny_model
from tools.benchmark import __main__ as benchmark
from tools.benchmark import exported, training, workload
from tools.benchmark.agreement import compare_outputs, detections_that_agree, recorded_heads
from tools.benchmark.flops import count_flops
from tools.benchmark.losses import CASES, measure_losses
from tools.benchmark.machine import describe_machine
from tools.benchmark.official import OfficialArrangement
from tools.benchmark.report import markdown
from tools.benchmark.settings import Settings, build_model
from tools.benchmark.shortlist import measure_shortlist, vocabulary
from tools.benchmark.sides import Bench
from tools.benchmark.stages import StageTimer
from tools.benchmark.timing import Clock, Timing, interleave
from tools.benchmark.weights import calibrate, make_lively
from tools.benchmark.workers import OutOfMemory, PeakMemory, Worker

CONFIG = "tests/support/tiny_detect.py"
# The parity tests' own. Sums in another order in float32 differ by some 1e-5 here, with logits of
# 20 units; any mistake in the arrangement is far larger.
TOLERANCE = 1e-4
# Not so small that P7 is one position: GroupNorm of two values magnifies rounding 300 times.
SIZE = (128, 192)


def lively_model(**overrides):
    model = tiny_model(**overrides)
    make_lively(model, seed=3)
    return model


def two_inputs():
    """Prompts of different lengths, images of different odd sizes."""
    other = tiny_input(117, 201, names=("a big old cat", "dog"), classes=(0, 1), seed=1)
    return [tiny_input(*SIZE), other]


@pytest.mark.parametrize("rule", ["raw_memory", "resized"])
def test_official_arrangement_gives_the_models_outputs(rule):
    model = lively_model(**{"neck.offset_rule": rule}).eval()
    official = OfficialArrangement(model)
    inputs = two_inputs()
    calibrate(model, inputs, candidates=200)
    with torch.no_grad(), recorded_heads(model) as ours, recorded_heads(official) as theirs:
        # One by one: the official code pads the smaller image of a batch, which changes its result.
        found, expected = model(inputs), [official([x])[0] for x in inputs]
    assert theirs[0].logits.shape[-1] == model.tokenizer.max_tokens == 256
    assert ours[0].logits.shape[-1] < 20
    prompts = [[x["prompt"]] for x in inputs]
    worst = compare_outputs(ours, theirs, prompts, model.tokenizer)
    assert worst["largest_logit"] > 3  # the tolerance means something
    assert max(worst[key] for key in ("logits", "deltas", "centerness")) < TOLERANCE
    for x, y in zip(found, expected):
        x, y = x["instances"], y["instances"]
        assert len(x) == len(y) > 10
        assert detections_that_agree(y, x, iou=0.99, score=1e-4) == len(y)


def loss_and_gradients(call, model, inputs):
    model.zero_grad()
    losses = call(inputs)
    sum(losses.values()).backward()
    return losses, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("checkpointing", ["none", "fusion", "block"])
def test_official_arrangement_trains_alike(checkpointing):
    model = lively_model(**{"neck.offset_rule": "raw_memory"}).train()
    official = OfficialArrangement(model, checkpointing)
    losses, gradients = loss_and_gradients(model, model, two_inputs())
    expected, theirs = loss_and_gradients(official, model, two_inputs())
    torch.testing.assert_close(losses, expected, atol=1e-5, rtol=1e-5)
    assert gradients.keys() == theirs.keys()
    largest = max(float(g.abs().max()) for g in theirs.values())
    for name, reference in theirs.items():
        # Relative to the largest gradient: single entries are sums that nearly cancel.
        assert (gradients[name] - reference).abs().max() < 1e-4 * largest, name


def test_official_arrangement_runs_everything_for_every_prompt():
    model = lively_model().eval()
    official = OfficialArrangement(model)
    chunks = Prompt.split(["cat", "dog", "red kite", "bird", "cow"], 2)
    inputs = [tiny_input(*SIZE, seed=seed) | {"prompt": chunks} for seed in (0, 1)]
    calibrate(model, inputs, candidates=200)
    calls = {"swin": 0, "text": 0}

    def count(name):
        def hook(*_):
            calls[name] += 1

        return hook

    official.backbone.bottom_up.register_forward_hook(count("swin"))
    official.language_backbone.register_forward_hook(count("text"))
    with torch.no_grad(), recorded_heads(model) as ours, recorded_heads(official) as theirs:
        found, expected = model(inputs), official(inputs)
    assert calls == {"swin": 3, "text": 3}
    worst = compare_outputs(ours, theirs, [chunks, chunks], model.tokenizer)
    assert max(worst[key] for key in ("logits", "deltas", "centerness")) < TOLERANCE
    for x, y in zip(found, expected):
        count_agreeing = detections_that_agree(y["instances"], x["instances"], 0.99, 1e-4)
        assert count_agreeing == len(x["instances"]) == len(y["instances"]) > 10


def test_official_arrangement_shares_the_parameters():
    model = lively_model()
    ids = {id(p) for p in model.parameters()}
    assert {id(p) for p in OfficialArrangement(model).parameters()} == ids


def test_official_arrangement_says_what_it_cannot_arrange():
    model = lively_model().eval()
    official = OfficialArrangement(model)
    with pytest.raises(PromptError, match="give each input"):
        official([{"image": tiny_input()["image"]}])
    with pytest.raises(PromptError, match="same number"):
        prompts = Prompt.split(["cat", "dog"], 1)
        official([tiny_input() | {"prompt": prompts}, tiny_input()])
    with pytest.raises(ConfigError, match="checkpointing"):
        official.set_checkpointing("all")
    with pytest.raises(ConfigError, match="read positions"):
        OfficialArrangement(tiny_model(**{"neck.positions": True}))
    model.neck.blocks = nn.ModuleList()
    with pytest.raises(ConfigError, match="without fusion"):
        OfficialArrangement(model)


def test_weights_are_reproducible_and_candidates_as_many_as_asked():
    first, second = lively_model(), lively_model()
    for a, b in zip(first.parameters(), second.parameters()):
        assert torch.equal(a, b)
    model = first.eval()
    with torch.no_grad(), recorded_heads(model) as outputs:
        calibrate(model, [tiny_input()], candidates=100)
        model([tiny_input()])
    above = outputs[-1].logits[0].sigmoid().amax(dim=1) > model.postprocessor.score_threshold
    assert 20 < int(above.sum()) <= 160


def test_stages_add_up_and_leave_the_model_as_it_was():
    model = lively_model().eval()
    bench = Bench(Settings(CONFIG), model)
    inputs = [tiny_input()]
    attributes = {name: set(vars(m)) for name, m in model.named_modules()}
    for side, has_text in (("official", True), ("ours-new", True), ("ours", False)):
        bench.call("ours", inputs)
        timer = StageTimer(bench.module(side), Clock("cpu"))
        seconds = timer.measure(lambda side=side: bench.call(side, inputs))
        stages = ("Swin", "FPN", "fusion", "text layers", "DyConv", "head", "post-processing")
        assert all(seconds[stage] > 0 for stage in stages)
        assert ("text" in seconds) == has_text
        parts = sum(seconds[name] for name in ("offsets", "mid", "low", "high") if name in seconds)
        assert parts < seconds["DyConv"]
        total = sum(seconds[stage] for stage in stages) + seconds.get("text", 0)
        assert 0.5 * seconds["whole"] < total <= seconds["whole"]
    assert {name: set(vars(m)) for name, m in model.named_modules()} == attributes
    assert not {"detect", "merge", "to_instances"} & set(vars(model.postprocessor))


def test_masks_are_a_stage_of_their_own():
    config = tiny_glipv2_config()
    config.mask_head = get_config("mask/glipv2_t_mask.py").model.mask_head
    model = instantiate(config).eval()
    make_lively(model, seed=3)
    calibrate(model, [tiny_input()], candidates=100)  # without detections no mask is made
    bench = Bench(Settings("a config"), model)
    seconds = StageTimer(model, Clock("cpu")).measure(lambda: bench.call("ours", [tiny_input()]))
    assert 0 < seconds["masks"] < seconds["whole"]
    assert "refine" not in vars(model.mask_head)


def test_flops_of_what_the_counter_does_not_know():
    x, weight = torch.randn(2, 8, 5, 6), torch.randn(4, 8, 3, 3)
    offset, mask = torch.randn(2, 18, 5, 6), torch.rand(2, 9, 5, 6)
    counted = count_flops(lambda: deform_conv2d(x, offset, weight, padding=1, mask=mask))
    samples = 2 * 5 * 6 * 9 * 8
    assert counted["total"] * 1e9 == pytest.approx(2 * samples * 4 + 2 * samples * 4)
    table, index = torch.randn(10, 8), torch.randint(10, (7, 4))
    with torch.no_grad():
        counted = count_flops(
            lambda: nn.functional.embedding_bag(
                index, table, mode="sum", per_sample_weights=torch.rand(7, 4)
            )
        )
    assert counted["total"] * 1e9 == 2 * 7 * 4 * 8


def test_losses_of_glipv2_are_measured_one_by_one(monkeypatch):
    model, seen = instantiate(tiny_glipv2_config()), []
    forward, parts = model.forward, (model.contrast, model.mlm_head)

    def spy(inputs):
        found = forward(inputs)
        seen.append(set(found) & {"loss_contrast", "loss_mlm"})
        return found

    monkeypatch.setattr(model, "forward", spy)
    monkeypatch.setattr("tools.benchmark.losses.build_model", lambda _: model)
    settings = Settings("a config", size=(64, 96), repeats=2)
    rows = measure_losses(settings, 1, ("float32",))
    assert [row["losses"] for row in rows] == list(CASES)
    both = {"loss_contrast", "loss_mlm"}
    assert seen == [set(), {"loss_contrast"}, {"loss_mlm"}, both] * 3  # the first one warms up
    assert all(row["seconds"]["median"] > 0 and len(row["seconds"]["runs"]) == 2 for row in rows)
    assert (model.contrast, model.mlm_head) == parts
    model.mlm_head = None
    with pytest.raises(ConfigError, match="a config has no mlm_head: .*glipv2_t.py"):
        measure_losses(settings, 1, ("float32",))


def test_vocabularies_of_which_the_best_names_are_asked(monkeypatch):
    model = instantiate(tiny_glipv2_config())
    asked, forward = [], model.neck.forward
    monkeypatch.setattr(
        model.neck,
        "forward",
        lambda levels, text: asked.append(len(text.mask)) or forward(levels, text),
    )
    settings = Settings("a config", size=(64, 96), repeats=1)
    (row,) = measure_shortlist(Bench(settings, model.eval()), 2, (100,))
    assert (row["prompts"], row["shortlist"]) == (3, workload.LVIS_CHUNK)
    # Calibration, then two prompts of all and that of the shortlist, in two rounds.
    assert asked == [1, *[2, 1] * 2]
    assert min(row[key] for key in ("ranking", "text", "vocabulary", "all_names")) > 0
    about = {
        "machine": describe_machine("cpu", 1),
        "settings": asdict(settings) | {"source": "files"},
    }
    page = markdown({**about, "peaks": {}, "parts": {"shortlist": [row | {"command": "..."}]}})
    assert "| names | prompts | shortlist | seconds |" in page and "| 100 | 3 | 40 |" in page
    assert len({*vocabulary(20_000)}) == 20_000
    with pytest.raises(ConfigError, match="config with model.contrast"):
        measure_shortlist(Bench(settings, tiny_model()), 2)


def test_sides_take_turns():
    calls = []
    sides = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    timings = interleave(sides, 3, Clock("cpu"))
    assert calls == ["a", "b"] * 3
    assert len(timings["a"].runs) == 3
    assert Timing([3.0, 1.0, 2.0]).median == 2.0


def instances(boxes, scores, classes):
    fields = {"pred_boxes": Boxes(torch.tensor(boxes)), "scores": torch.tensor(scores)}
    return Instances((100, 100), **fields, pred_classes=torch.tensor(classes))


def test_agreement_of_detections_counts_partners_once():
    box = [0.0, 0.0, 10.0, 10.0]
    reference = instances([box, box, [50.0, 50.0, 60.0, 60.0]], [0.9, 0.9, 0.5], [0, 0, 1])
    assert detections_that_agree(reference, reference) == 3
    assert detections_that_agree(reference, instances([box], [0.905], [0])) == 1
    assert detections_that_agree(reference, instances([box], [0.92], [0])) == 0
    assert detections_that_agree(reference, instances([box], [0.9], [1])) == 0
    assert detections_that_agree(reference, reference[:0]) == 0


def test_peak_memory_is_that_of_what_was_freed_too():
    torch.ones(500 * 2**18)  # an earlier, higher peak
    peak = PeakMemory("cpu")
    torch.ones(300 * 2**18)
    if peak.exact:
        assert 290 < peak.gb() * 1024 < 330


def test_a_process_of_its_own_stays_within_its_memory():
    with Worker(limit_gb=3.0) as worker:
        with pytest.raises(OutOfMemory):
            worker(bytearray, 4 * 2**30)
        assert worker(divmod, 7, 2) == (3, 1)  # the process lives on
        with pytest.raises(ZeroDivisionError):
            worker(divmod, 7, 0)


def test_training_step_measures_both_sides(monkeypatch):
    monkeypatch.setattr(workload, "BOXES_PER_IMAGE", 2)
    settings = Settings(CONFIG, ("model.neck.dropout=0.1",), size=SIZE)
    checks = {}
    for side in training.MODES:
        training._build(settings, side, 2)
        for mode in training.MODES[side]:
            checks[side, mode] = training._check(mode)
            seconds, _ = training._timed(mode, "float32")
            assert seconds > 0
        assert training._STATE["model"].neck.blocks[0].fusion.attention.dropout == 0.1
    reference = checks["official", "none"]
    assert set(reference) > {"loss_token", "gradient"}
    for check in checks.values():
        assert training._difference({"official": reference, "ours": check}) < 1e-4
    with pytest.raises(ConfigError, match="gradients differ"):
        wrong = {**reference, "gradient": 2 * reference["gradient"]}
        training._difference({"official": reference, "ours": wrong})
    with pytest.raises(ConfigError, match="fits into memory"):
        training._difference({"official": "can't allocate", "ours": reference})


def run(tmp_path, *arguments):
    size = "x".join(map(str, SIZE))
    options = ["--config-file", CONFIG, "--size", size, "--repeats", "2", "--threads", "1"]
    return benchmark.main([*arguments, *options, "--output", str(tmp_path / "report")])


def test_report_of_a_run(tmp_path, monkeypatch, capsys):
    peaks = iter([40.0, 40.0, 50.0, 30.0])  # before and after, in both precisions
    monkeypatch.setattr(benchmark, "matmul_peak", lambda *_: next(peaks))
    only = "speed,stages,lvis,agreement,profile"
    arguments = ["--only", only, "--prompts", "twenty", "--batch", "2", "--chunks", "2"]
    assert run(tmp_path, *arguments, "--candidates", "300") == 0
    results = json.loads((tmp_path / "report" / "benchmark.json").read_text())
    assert set(results["parts"]) == set(only.split(","))
    assert results["machine"]["threads"] == 1
    speed = {row["side"]: row for row in results["parts"]["speed"]}
    assert set(speed) == {"official", "ours", "ours-new", "ours-bf16"}
    for row in speed.values():
        runs = row["seconds"]["runs"]
        assert len(runs) == 2 and min(runs) > 0
        assert row["seconds"]["median"] == pytest.approx(sum(runs) / 2)
        rate = row["gflop"]["total"] / row["seconds"]["median"]
        peak = 40.0 if row["side"].endswith("bf16") else 50.0
        assert row["share_of_peak"] == pytest.approx(rate / peak)
        assert row["images_per_second"] == pytest.approx(2 / row["seconds"]["median"])
        ratio = speed["official"]["seconds"]["median"] / row["seconds"]["median"]
        assert row["times_official"] == pytest.approx(ratio)
        assert (row["batch"], row["prompt"]) == (2, "twenty")
        assert row["tokens"] == speed["ours"]["tokens"]
    # The seen prompt's text is not encoded, the new one's is, the official one's is padded.
    work = {side: row["gflop"]["total"] for side, row in speed.items()}
    assert work["ours"] < work["ours-new"] < work["official"]
    assert work["ours-bf16"] == pytest.approx(work["ours"])
    assert 0 < speed["ours"]["agreement"]["logits"] < 1e-4
    lvis = {row["side"]: row for row in results["parts"]["lvis"]}
    row = lvis["ours"]
    assert (row["chunks"], row["chunks_of_vocabulary"]) == (2, 31)
    expected = row["backbone_and_fpn"] + 31 * row["per_chunk"]
    assert row["calculated"] == pytest.approx(expected / row["batch"])
    assert {row["side"] for row in results["parts"]["stages"]} == {
        "official", "ours-new", "ours-bf16",
    }  # fmt: skip
    assert [row["image"] for row in results["parts"]["agreement"]] == [0, 1]
    profile = results["parts"]["profile"]
    assert [row["ms"] for row in profile] == sorted((row["ms"] for row in profile), reverse=True)
    assert {row["side"] for row in profile} == {"ours-bf16"} and profile[0]["calls"] > 0
    assert (tmp_path / "report" / "profile_trace.json.gz").stat().st_size > 1000
    page = (tmp_path / "report" / "benchmark.md").read_text()
    assert page in capsys.readouterr().out
    for heading in ("## Inference", "## Stages", "## LVIS", "## bf16 and fp16 against float32"):
        assert heading in page
    command = speed["ours"]["command"]
    assert "--only speed --prompts twenty --batch 2" in command
    assert command in page and "--output" not in command and "--candidates 300" in command


def test_captions_of_a_run(tmp_path):
    """Both ways write the same, at each beam size; they are timed without the pyramid."""
    assert run(tmp_path, "--only", "captions", "--batch", "2") == 0
    results = json.loads((tmp_path / "report" / "benchmark.json").read_text())
    rows = results["parts"]["captions"]
    assert [(row["beam"], row["batch"], row["same"]) for row in rows] == [
        (1, 2, "yes"), (5, 2, "yes"),
    ]  # fmt: skip
    for row in rows:
        seconds = row["seconds"]
        assert row["times_recomputed"] == seconds["recomputed"] / seconds["cached"] > 1
        assert row["recomputed_per_token"] * 21 == pytest.approx(seconds["recomputed"])
    page = (tmp_path / "report" / "benchmark.md").read_text()
    assert "## Captions" in page and "--only captions" in page


def test_exports_beside_their_model(monkeypatch):
    bench = Bench(Settings(config=CONFIG, size=SIZE, repeats=2), lively_model().eval())

    class Export:
        def __init__(self, folder, device):
            self.model = {"x": bench.model, "y": bench.model}[folder.name]
            format, notes = {"x": ("onnx", {}), "y": ("openvino", {"int8": "of 4"})}[folder.name]
            self.manifest = SimpleNamespace(format=format, notes=notes)

        def __call__(self, inputs):
            return self.model(inputs)

    monkeypatch.setattr(exported, "ExportedGLIP", Export)
    folders = [Path("x"), Path("y")]
    rows = exported.measure_exported(bench, folders, "one", 1, ["ours", "ours-bf16"])
    assert [row["side"] for row in rows] == ["ours", "ours-bf16", "x", "y", "y, bf16"]
    assert rows[3]["what"] == "openvino, int8 and float32"
    assert rows[2]["what"] == "onnx, float32" and len(rows[2]["seconds"]["runs"]) == 2
    assert rows[4]["score_difference"] == rows[1]["score_difference"]
    assert rows[2]["score_difference"] == 0 < rows[1]["score_difference"]
    with pytest.raises(ConfigError, match="no exports are named: --exported FOLDER"):
        exported.measure_exported(bench, [], "one", 1, ["ours"])


def test_grounding_dino_beside_ours(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "matmul_peak", lambda *_: 50.0)
    arguments = ["--quick", "--only", "gdino", "--prompts", "one", "--batch", "1"]
    assert run(tmp_path, *arguments) == 0
    results = json.loads((tmp_path / "report" / "benchmark.json").read_text())
    rows = {row["side"]: row for row in results["parts"]["speed"]}
    assert set(rows) == {"ours", "gdino"}
    assert rows["gdino"]["times_gdino"] == 1
    assert rows["gdino"]["gflop"]["total"] > 0


def test_what_does_not_compute_the_same_is_not_timed(tmp_path, monkeypatch, capsys):
    from tools.benchmark import inference

    monkeypatch.setattr(benchmark, "matmul_peak", lambda *_: 50.0)
    monkeypatch.setattr(inference, "TOLERANCE", 0.0)
    assert run(tmp_path, "--only", "speed", "--prompts", "one", "--batch", "1") == 1
    assert "is not timed" in capsys.readouterr().err
    results = json.loads((tmp_path / "report" / "benchmark.json").read_text())
    assert not results["parts"] and "speed, one, batch 1" in results["problems"]


def test_a_batch_that_does_not_fit_costs_itself_only(tmp_path, monkeypatch, capsys):
    measure = benchmark.measure_speed

    def full(bench, kind, batch, sides):
        if batch == 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        return measure(bench, kind, batch, sides)

    monkeypatch.setattr(benchmark, "matmul_peak", lambda *_: 50.0)
    monkeypatch.setattr(benchmark, "measure_speed", full)
    assert run(tmp_path, "--only", "speed", "--prompts", "one", "--batch", "2,1") == 1
    results = json.loads((tmp_path / "report" / "benchmark.json").read_text())
    assert {row["batch"] for row in results["parts"]["speed"]} == {1}
    assert "out of memory" in results["problems"]["speed, one, batch 2"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--only", "speed,warp"], "warp is not among"),
        (["--prompts", ""], "nothing is not among"),
        (["--size", "800"], "HEIGHTxWIDTH"),
        (["--size", "800x16"], "32 pixels or more"),
        (["--batch", "1,0"], "'0' is not a positive number"),
        (["--precision", "fp8"], "fp8 is not among float32, bf16, fp16"),
        (["--sides", "theirs"], "theirs is not among"),
    ],
)
def test_bad_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(arguments)
    assert message in capsys.readouterr().err


def test_what_is_not_there(tmp_path, capsys):
    assert benchmark.main(["--config-file", "nowhere.py"]) == 2
    assert "nowhere.py" in capsys.readouterr().err
    assert run(tmp_path, "--weights", "none.pth") == 2
    assert "none.pth" in capsys.readouterr().err
    assert run(tmp_path, "--device", "cuda:99") == 2
    assert "the device 'cuda:99'" in capsys.readouterr().err
    assert run(tmp_path, "--only", "lvis", "--chunks", "32") == 1
    assert "between 1 and 31" in capsys.readouterr().err
    assert run(tmp_path, "--only", "agreement", "--prompts", "one", "--image", "no.jpg") == 2
    assert "no.jpg" in capsys.readouterr().err


def test_config_without_language(tmp_path, capsys):
    config = tmp_path / "no_model.py"
    config.write_text("model = dict(a=1)\n")
    assert benchmark.main(["--config-file", str(config)]) == 2
    assert "no GLIP model" in capsys.readouterr().err


def test_vocabularies():
    assert workload.prompt_names("one") == ["person"]
    assert workload.prompt_names("coco")[:20] == workload.prompt_names("twenty")
    assert len(workload.prompt_names("lvis")) == 1203
    tokenizer = build_model(Settings(CONFIG)).tokenizer
    prompts, total = workload.lvis_prompts(tokenizer, 4)
    assert total == 31 and len(prompts) == 4
    assert (prompts[0].class_ids[0], prompts[-1].class_ids[-1]) == (0, 1202)
