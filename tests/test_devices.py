"""Everything that runs on the CPU runs on another device, and gives the same.

On a pretended device (tests/support/other_device.py) everywhere, which finds tensors that stay
behind; on CUDA where there is a GPU, which finds kernels that differ.
"""

import copy
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate
from detectron2.structures import BitMasks

from glipv2_d2.config import get_config
from glipv2_d2.engine import GroundingPredictor
from glipv2_d2.engine.ema import ModelEMA
from glipv2_d2.engine.trainer import build_trainer
from glipv2_d2.language import Prompt
from glipv2_d2.modeling.tta import GLIPWithTTA
from tests.support.other_device import AVAILABLE, other_device
from tests.support.tiny import lively, tiny_config, tiny_glipv2_config, tiny_input, tiny_model
from tools.benchmark.training import without_randomness

ROOT = Path(__file__).resolve().parents[1]
# The parity tests' own. Off the CPU the model takes other ways (whole tensors for blocks that fit
# the cache, torchvision's deformable convolution on CUDA): sums in another order.
TOLERANCE = 1e-4


# Set in the process that `test_on_a_pretended_device` starts.
PRETENDED = os.environ.get("GLIP_TEST_PRETENDED_DEVICE") == "1"
on_cuda = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.skipif(not AVAILABLE, reason="needs PyTorch 2.9 or newer")
@pytest.mark.skipif(PRETENDED, reason="this is that process")
def test_on_a_pretended_device():
    """Everything below, in a process of its own."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(
        [*command, "-k", "elsewhere"], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "GLIP_TEST_PRETENDED_DEVICE": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
    assert "10 passed" in done.stdout


@pytest.fixture(params=["elsewhere"] if PRETENDED else [pytest.param("cuda", marks=on_cuda)])
def device(request):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    with other_device() if request.param == "elsewhere" else nullcontext(request.param) as name:
        yield name


def masked_config():
    """The tiny GLIPv2 with the mask head of the shipped ones."""
    config = tiny_glipv2_config()
    config.mask_head = get_config("mask/glipv2_t_mask.py").model.mask_head
    config.mask_head.hourglass.channels = 16
    return config


def inputs(masks=False):
    """Two images of odd sizes with prompts of different lengths."""
    batch = [tiny_input(), tiny_input(117, 201, names=("a big old cat", "dog"), classes=(0, 1))]
    for x in batch if masks else ():
        whole = torch.zeros(len(x["instances"]), *x["image"].shape[1:], dtype=torch.bool)
        whole[:, 10:40, 10:40] = True
        x["instances"].gt_masks = BitMasks(whole)
    return batch


def detections(model, batch):
    with torch.no_grad():
        return [x["instances"].to("cpu") for x in model.eval()(batch)]


def assert_same_detections(found, expected):
    for x, y in zip(found, expected, strict=True):
        assert len(x) == len(y) > 5
        close = {"atol": TOLERANCE * 100, "rtol": 0.0}  # of boxes, in pixels
        torch.testing.assert_close(x.pred_boxes.tensor, y.pred_boxes.tensor, **close)
        torch.testing.assert_close(x.scores, y.scores, atol=TOLERANCE, rtol=0.0)
        assert x.pred_classes.tolist() == y.pred_classes.tolist()


@pytest.mark.parametrize("prompts", ["one", "several", "vocabulary"])
def test_inference(device, prompts):
    model = lively(tiny_model()).eval()
    batch = [{k: v for k, v in x.items() if k != "instances"} for x in inputs()]
    for x in batch:
        if prompts == "several":
            x["prompt"] = Prompt.split(["cat", "dog", "red kite"], 2)
        elif prompts == "vocabulary":
            del x["prompt"]
    model.set_vocabulary(["cat", "dog"])
    expected = detections(model, batch)
    found = detections(model.to(device), batch)
    assert_same_detections(found, expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_cuda_graphs(precision):
    """Shapes that come again are played back: what is launched kernel by kernel, up to rounding."""
    torch.manual_seed(0)
    plain = lively(tiny_model()).eval().cuda()
    graphed = copy.deepcopy(plain)
    graphed.graphs.capacity = 8
    batches = []
    for names in (("cat", "dog"), ("a big old cat", "dog", "kite")):
        batch = [tiny_input(96, 128, names=names, classes=(0, 1)) for _ in range(2)]
        batches.append([{k: v for k, v in x.items() if k != "instances"} for x in batch])

    def launched(batch):
        """A first call: prompts are padded as for graphs, and nothing is recorded."""
        return detections(copy.deepcopy(graphed), batch)

    with torch.autocast("cuda", dtype=precision, enabled=precision is not None):
        expected = [launched(batch) for batch in batches]
        if precision is None:  # bf16 shows that the padding is summed, too
            for batch, of_batch in zip(batches, expected):
                assert_same_detections(detections(plain, batch), of_batch)
        for _ in range(3):
            for batch, of_batch in zip(batches, expected):
                assert_same_detections(detections(graphed, batch), of_batch)
        assert len(graphed.graphs) == 3
        graphed.neck.blocks[0].fusion.gamma_v.data.mul_(8.0)  # in place: it is read
        changed = detections(graphed, batches[0])
        assert_same_detections(changed, launched(batches[0]))
        assert not torch.equal(changed[0].scores, expected[0][0].scores)
        flipped = [{**x, "image": x["image"].flip(2)} for x in batches[0]]
        assert_same_detections(detections(graphed, flipped), launched(flipped))


def losses_and_gradients(model, batch):
    torch.manual_seed(0)  # the masked words, the contrast's sample of positions
    losses = model.train()(batch)
    sum(losses.values()).backward()
    gradients = {n: p.grad.cpu() for n, p in model.named_parameters() if p.grad is not None}
    return {name: float(value) for name, value in losses.items()}, gradients


def drawn_on_cpu(draw):
    """torch.rand and the like from the CPU's generator, handed to the device that is asked for."""
    return lambda *args, device=None, **options: draw(*args, **options).to(device)


@pytest.mark.parametrize("config", [tiny_config, tiny_glipv2_config, masked_config])
def test_training(device, config, monkeypatch):
    torch.manual_seed(0)
    # The same words are masked and the same positions sampled: CUDA's random numbers are others.
    for name in ("rand", "randint", "randperm"):
        monkeypatch.setattr(torch, name, drawn_on_cpu(getattr(torch, name)))
    model = lively(instantiate(config()))
    other = copy.deepcopy(model).to(device)
    batch = inputs(masks=config is masked_config)
    # CUDA drops out other units.
    with without_randomness(model), without_randomness(other):
        expected, gradients = losses_and_gradients(model, batch)
        found, others = losses_and_gradients(other, batch)
    assert found == pytest.approx(expected, abs=TOLERANCE, rel=TOLERANCE)
    assert others.keys() == gradients.keys()
    largest = max(float(g.abs().max()) for g in gradients.values())
    for name, reference in gradients.items():
        assert (others[name] - reference).abs().max() <= TOLERANCE * largest, name


def test_predictor_with_masks(device):
    torch.manual_seed(0)
    model = lively(instantiate(masked_config()))
    image = inputs()[1]["image"].permute(1, 2, 0).numpy()
    names = ["cat", "dog", "red kite"]
    expected = GroundingPredictor(model, min_size=96, max_size=160)([image], names)
    found = GroundingPredictor(model.to(device), min_size=96, max_size=160)([image], names)
    assert_same_detections(found, expected)
    different = (found[0].pred_masks != expected[0].pred_masks).float().mean()
    assert different <= 10 * TOLERANCE  # pixels at the threshold


def test_test_time_augmentation(device):
    model = lively(tiny_model()).eval()
    batch = [{k: v for k, v in x.items() if k != "instances"} for x in inputs()]
    options = {"min_sizes": [64, 96], "max_size": 160, "flip": True}
    expected = detections(GLIPWithTTA(model, **options), batch)
    found = detections(GLIPWithTTA(model.to(device), **options), batch)
    assert_same_detections(found, expected)


def test_moving_average(device):
    model = tiny_model()
    averages = []
    for where in ("cpu", device):
        moved = copy.deepcopy(model).to(where)
        ema = ModelEMA(moved, 0.9)
        with torch.no_grad():
            for parameter in moved.parameters():
                parameter.add_(1.0)
        ema.update()
        averages.append({k: v.cpu() for k, v in ema.state_dict()["shadow"].items()})
    for name, value in averages[0].items():
        torch.testing.assert_close(averages[1][name], value, atol=TOLERANCE, rtol=0.0)


def test_parity_tool(device, tmp_path):
    """tools/parity compares a model that is on the device."""
    from tests.support import tiny_parity
    from tools.parity.cases import ParityCase, TrainingCase
    from tools.parity.inference import verify_case
    from tools.parity.training import verify_training

    model = tiny_parity.model()
    tiny_parity.write_case(model, tmp_path)
    tiny_parity.write_training(model, tmp_path)
    tiny_parity.write_pictures(tmp_path)
    entries = tiny_parity.official_manifest(model)
    case = ParityCase.load(tmp_path / "case_t.npz")
    training = TrainingCase.load(tmp_path / "train_t.json")
    model = model.to(device)
    reports = [verify_case(model, case), verify_training(model, training, entries=entries)]
    assert not [failure for report in reports for failure in report.failures]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["bf16", "fp16", None])
def test_trainer_on_cuda(precision):
    """Autocast, gradient scaling and clipping; the loss falls on the one batch."""
    from detectron2.utils.events import EventStorage
    from omegaconf import OmegaConf

    torch.manual_seed(0)
    model = instantiate(masked_config()).cuda().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    amp = {"enabled": precision is not None, "precision": precision or "bf16"}
    config = OmegaConf.create({"amp": amp, "clip_grad": 1.0})
    trainer = build_trainer(model, [inputs(masks=True)] * 30, optimizer, config)
    seen = []
    with EventStorage() as storage:
        for trainer.iter in range(30):
            trainer.storage = storage
            trainer.run_step()
            seen.append(storage.latest()["total_loss"][0])
            storage.step()
    assert all(value == value for value in seen)
    assert sum(seen[-5:]) < 0.8 * sum(seen[:5])
