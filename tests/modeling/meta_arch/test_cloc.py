"""CLOC: its losses against loops, mixed batches, micro-batches, processes, what it refuses."""

import math

import pytest
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, instantiate
from detectron2.utils import comm

from glipv2_d2 import compat
from glipv2_d2.config import get_config
from glipv2_d2.errors import ConfigError, DataError, PromptError, PromptTooLongError, UsageError
from glipv2_d2.language import Prompt
from glipv2_d2.modeling import CLOC
from glipv2_d2.modeling.processes import MicroBatches
from tests.support.tiny_cloc import SIDE, picture, region_batch, region_input, tiny_cloc

# Of the inputs of `region_batch`: what is said of each image, and its regions' texts.
CAPTIONS = [
    "a red star by a blue ring",
    "red star. dog",
    "nothing is known of it",
    "two moons",
    None,
    "the green cross below a heart",
    "another caption",
    "a white square",
]
TEXTS = {
    0: ["red star", "blue ring"],
    1: ["red star", "dog", "dog"],
    3: ["two moons"],
    5: ["a heart", "green cross", "a heart"],
    7: ["white square"],
}


def backward(model, inputs):
    model.zero_grad()
    losses = model(inputs)
    sum(losses.values()).backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return {name: loss.item() for name, loss in losses.items()}, gradients


def check(found, expected):
    """In float64; counts are float32."""
    for name, value in expected[0].items():
        assert found[0][name] == pytest.approx(value, rel=1e-6), name
    for name, gradient in expected[1].items():
        atol = 1e-6 * float(gradient.abs().max()) + 1e-9
        torch.testing.assert_close(found[1][name], gradient, rtol=0, atol=atol, msg=name)


def trained(**overrides):
    return tiny_cloc(**overrides).double().train()


@torch.no_grad()
def test_losses_are_those_of_the_paper():
    """Equations 1 to 4, one image, one text and one box after the other."""
    model, inputs = trained(), region_batch()
    losses = model(inputs)
    images = model.encode(inputs)
    scale = 1 / 0.07

    def cross_entropy(one, other, conflicts=frozenset()):
        total = 0
        for i in range(len(one)):
            kept = [j for j in range(len(one)) if j == i or (i, j) not in conflicts]
            scores = torch.stack([one[i] @ other[j] for j in kept]) * scale
            total += F.cross_entropy(scores, torch.tensor(kept.index(i))).item()
        return total / len(one)

    said = [i for i, caption in enumerate(CAPTIONS) if caption]
    texts = torch.cat([model.embed_texts([CAPTIONS[i]]) for i in said])
    seen = images.embeddings[said]
    expected = (cross_entropy(seen, texts) + cross_entropy(texts, seen)) / 2
    assert losses["loss_image_text"].item() == pytest.approx(expected)

    flat = [(i, k, text) for i, of_image in TEXTS.items() for k, text in enumerate(of_image)]
    boxes = torch.stack([inputs[i]["instances"].gt_boxes.tensor[k] / SIDE for i, k, _ in flat])
    regions = torch.cat(
        [
            model.embed_boxes(images, torch.tensor([i]), box[None])
            for (i, _, _), box in zip(flat, boxes)
        ]
    )
    phrases = torch.cat([model.embed_texts([text]) for _, _, text in flat])
    pairs = [(a, b) for a in range(len(flat)) for b in range(len(flat))]
    same = {(a, b) for a, b in pairs if flat[a][2] == flat[b][2]}
    centered = F.normalize(phrases - phrases.mean(dim=0), dim=1)
    assert {(a, b) for a, b in pairs if centered[a] @ centered[b] > 0.9} == same
    expected = cross_entropy(regions, phrases, same) + cross_entropy(phrases, regions, same)
    share = 5 / 8  # of the images with boxes
    assert losses["loss_region_text"].item() == pytest.approx(share * expected / 2)

    errors = []
    for (i, _, text), box in zip(flat, boxes):
        found = model.locate(images, [text])[i, 0]
        errors += (found - box).square().tolist()
    expected = share * sum(errors) / len(errors)
    assert losses["loss_grounding"].item() == pytest.approx(expected)


def test_at_most_four_regions_of_an_image_drawn_anew():
    model = tiny_cloc()
    x = region_input(Prompt.from_classes(list("abcdefg")), range(7))
    drawn = set()
    for seed in range(5):
        torch.manual_seed(seed)
        regions = model._sample_regions([x, x], [x["prompt"]] * 2)
        assert regions.images.tolist() == [0] * 4 + [1] * 4
        for half in (regions.texts[:4], regions.texts[4:]):
            assert len(set(half)) == 4
            drawn.add("".join(sorted(half)))
        boxes = x["instances"].gt_boxes.tensor / SIDE
        for text, box in zip(regions.texts, regions.boxes):
            assert torch.equal(box, boxes["abcdefg".index(text)])
    assert len(drawn) > 5


@pytest.mark.parametrize("count", [2, 3, 8])
def test_micro_batches_equal_the_whole_batch(count):
    """Some have no box or no caption."""
    inputs = region_batch()
    expected = backward(trained(), inputs)
    model = trained()
    micro_batches = MicroBatches(inputs, count)
    with torch.no_grad():
        for index in range(count):
            with micro_batches.turn(index, telling=True) as part:
                model(part)
    losses = {}
    for index in range(count):
        with micro_batches.turn(index, telling=False) as part:
            found = model(part)
            (sum(found.values()) / count).backward()
        for name, loss in found.items():
            losses[name] = losses.get(name, 0) + loss.item() / count
    check((losses, {name: p.grad for name, p in model.named_parameters()}), expected)


def _worker(folder):
    rank = comm.get_rank()
    model = trained()
    wrapped = compat.create_ddp_model(model)
    losses = wrapped(region_batch()[2 * rank :][:2])
    sum(losses.values()).backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    torch.save(({k: v.item() for k, v in losses.items()}, gradients), folder / f"{rank}.pth")


@pytest.mark.slow
def test_four_processes_with_two_images_equal_one_with_eight(tmp_path, quick_processes):
    """One of the four has a single box and no names, another one no box at all."""
    compat.launch(_worker, 0, num_processes=4, dist_url="auto", args=(tmp_path,))
    found = [torch.load(tmp_path / f"{rank}.pth") for rank in range(4)]
    losses = {name: sum(one[0][name] for one in found) / 4 for name in found[0][0]}
    check((losses, found[0][1]), backward(trained(), region_batch()))


def test_a_batch_of_captions_alone_learns_from_them():
    inputs = [region_batch()[i] for i in (2, 6)]
    losses, gradients = backward(trained(), inputs)
    assert losses["loss_image_text"] > 0
    assert losses["loss_region_text"] == losses["loss_grounding"] == 0
    assert gradients["visual.trunk.patch_embed.proj.weight"].any()
    # They have a gradient, of 0: DistributedDataParallel waits for each.
    of_regions = [g for name, g in gradients.items() if name.startswith(("prompter", "box_head"))]
    assert not any(g.any() for g in of_regions)


def test_an_image_of_which_nothing_is_said_takes_no_part():
    nothing = region_batch()[4]
    assert set(backward(trained(), [nothing, nothing])[0].values()) == {0.0}
    first = region_batch()[:2]
    alone, beside = (backward(trained(), inputs)[0] for inputs in (first, [*first, nothing]))
    assert beside["loss_image_text"] == pytest.approx(alone["loss_image_text"])
    assert beside["loss_region_text"] == pytest.approx(2 / 3 * alone["loss_region_text"])


def test_the_caption_is_the_images_own_part_of_the_prompt():
    prompt = Prompt.from_caption("a moon. a red star", [[(10, 18)]], own_span=(8, 18))
    inputs = [region_input(prompt, [0]), region_batch()[3]]
    whole = Prompt.parse("a [red star]")
    same = [{**inputs[0], "prompt": whole}, inputs[1]]
    model = trained()
    assert backward(model, inputs)[0] == backward(model, same)[0]


def test_the_temperature_is_learned_and_bounded():
    model = trained()
    with torch.no_grad():
        model.log_temperature.fill_(math.log(1e-6))
    gradient = backward(model, region_batch())[1]["log_temperature"]
    assert model.log_temperature.exp().item() == pytest.approx(0.01)
    assert gradient != 0


def test_ablations_are_other_modules():
    """RoIAlign in the Prompter's place, no filter, no grounding."""
    target = "glipv2_d2.modeling.prompter.RoIAlignPrompter"
    plain = backward(trained(conflict_threshold="null", box_head="null"), region_batch())
    filtered = backward(trained(box_head="null"), region_batch())
    assert plain[0].keys() == {"loss_image_text", "loss_region_text"}
    assert plain[0]["loss_region_text"] > filtered[0]["loss_region_text"]
    roi = backward(trained(**{"prompter._target_": target, "box_head": "null"}), region_batch())
    assert all(gradient.any() for gradient in roi[1].values())
    with pytest.raises(ConfigError, match=r"RoIAlignPrompter takes no texts: set model\.box_head"):
        tiny_cloc(**{"prompter._target_": target})


@torch.no_grad()
def test_inference_gives_what_is_asked_for():
    """Boxes are in pixels of a picture of another size; a batch has what each image has alone."""
    model = tiny_cloc(region_batch_size=2)
    x = {"image": picture(0, 16, 32), "height": 100, "width": 400}
    boxes = torch.tensor([[0, 0, 200, 100], [100, 50, 400, 75], [0.0, 0, 400, 100]])
    nothing = {"image": picture(1), "boxes": [], "texts": []}
    asked = [{**x, "boxes": boxes, "texts": ["a star", "a moon"]}, nothing, {"image": picture(1)}]
    found, empty, other = model(asked)
    assert other.keys() == {"image_embedding"}
    assert empty["region_embeddings"].shape == empty["text_embeddings"].shape == (0, 8)
    assert found["text_embeddings"].shape == (2, 8)
    images = model.encode(asked[:1])
    rows = torch.zeros(3, dtype=torch.int64)
    relative = boxes / torch.tensor([400, 200, 400, 200])  # the lower half of the square is empty
    expected = model.embed_boxes(images, rows, relative)
    torch.testing.assert_close(found["region_embeddings"], expected)
    torch.testing.assert_close(found["image_embedding"], images.embeddings[0])
    for embeddings in (found["region_embeddings"], found["text_embeddings"], images.embeddings):
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(len(embeddings)))
    assert model.locate(images, ["a star", "a moon", "a ring"]).shape == (1, 3, 4)


@torch.no_grad()
def test_a_text_is_read_by_itself_whatever_stands_beside_it():
    model = tiny_cloc()
    alone = model.embed_texts(["a star"])
    beside = model.embed_texts(["a longer text about a moon", "a star"])
    torch.testing.assert_close(alone[0], beside[1])
    assert (beside[0] - beside[1]).abs().max() > 1e-3
    assert torch.equal(model.train().embed_texts(["A STAR"]), alone)  # without the cache


def test_trains_in_bf16():
    model = tiny_cloc().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(region_batch())
    sum(losses.values()).backward()
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_through_a_yacs_config(tmp_path):
    cfg = CfgNode({"MODEL": {"GLIP": {"CONFIG": "demo/scenes_cloc.py"}}})
    assert isinstance(CLOC(cfg), CLOC)


QUESTION = Prompt.from_caption("what is it?", (), kind="question")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"prompt": None}, PromptError, r'7\.jpg has no "prompt", and CLOC learns from captions'),
        (
            {"prompt": [QUESTION, QUESTION]},
            PromptError,
            r"exactly one prompt .* 7\.jpg has several",
        ),
        ({"prompt": QUESTION}, DataError, r"7\.jpg comes with a question, and CLOC learns from"),
        (
            {"image": picture(0, 20, SIDE + 1)},
            UsageError,
            r"7\.jpg has 20x33 pixels, more than the tower's 32: resize the long side",
        ),
        (
            {"prompt": Prompt.from_caption("far too long " * 20, (), kind="caption")},
            PromptTooLongError,
            r"has 62 tokens, the limit is 24: shorten the caption",
        ),
    ],
)
def test_refuses_in_training(change, error, message):
    x = region_batch()[7]
    x.pop("instances")
    with pytest.raises(error, match=message):
        tiny_cloc().train()([{**x, **change}])


def test_refuses_at_inference():
    with pytest.raises(UsageError, match="the batch is empty"):
        tiny_cloc()([])
    model = tiny_cloc(box_head="null")
    with pytest.raises(ConfigError, match=r"without the grounding loss: it has no model\.box_head"):
        model.locate(model.encode([{"image": picture()}]), ["a star"])


def test_full_sizes_fit_together():
    """On `meta`: a width of one part that is not the other's would end the first step."""
    for name, millions in (("b16", 157.76), ("l14", 442.71), ("h14", 1009.88)):
        model = get_config(f"cloc/cloc_{name}.py").model
        model.visual.use_checkpoint = False
        with torch.device("meta"):
            built = instantiate(model)
            x = torch.empty(1, 3, *[model.visual.image_size] * 2)
            tokens, image = built.visual(x)
            regions = built.prompter.of_boxes(
                tokens, built.visual.grid_size, torch.zeros(2, dtype=torch.int64), torch.rand(2, 4)
            )
        assert image.shape[1] == regions.shape[1] == model.embed_channels
        count = sum(p.numel() for p in built.parameters()) / 1e6
        assert count == pytest.approx(millions, abs=0.01), name
