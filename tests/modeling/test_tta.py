"""Test-time augmentation around a stub that finds colored patches."""

import pytest
import torch
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.structures import Boxes, Instances
from torch import nn

from glipv2_d2.language import Prompt
from glipv2_d2.language.phrase_list import PhraseList
from glipv2_d2.modeling.mask_output import postprocess
from glipv2_d2.modeling.tta import GLIPWithTTA
from tests.support.tiny import detect, tiny_masks_model, tiny_question

COLORS = ("blue", "green", "red")
CATS = Prompt.from_classes(["cat", "dog", "red kite"])


class PatchFinder(nn.Module):
    """Boxes each channel's bright pixels, as a detector would: scaled to the output's size."""

    mask_head = None

    def __init__(self, scores=(0.9, 0.8, 0.7)):
        super().__init__()
        self.scores = scores
        self.views = []
        self.vocabulary_prompts = []
        self.postprocessor = type("Postprocessor", (), {"nms_threshold": 0.6})()

    def inference(self, batched_inputs):
        (inputs,) = batched_inputs
        image, height, width = inputs["image"], inputs["height"], inputs["width"]
        self.views.append(image)
        scale = torch.tensor([width / image.shape[2], height / image.shape[1]] * 2)
        found = []
        for label, channel in enumerate(image):
            y, x = (channel > 127).nonzero(as_tuple=True)
            if len(x):
                box = torch.stack((x.min(), y.min(), x.max() + 1, y.max() + 1)) * scale
                found.append((box, self.scores[label], label))
        instances = Instances(
            (height, width),
            pred_boxes=Boxes(torch.stack([b for b, _, _ in found]) if found else torch.zeros(0, 4)),
            scores=torch.tensor([s for _, s, _ in found]),
            pred_classes=torch.tensor([c for _, _, c in found], dtype=torch.long),
            pred_phrases=PhraseList(COLORS[c] for _, _, c in found),
        )
        return [{"instances": instances}]


def picture(*patches, height=40, width=60, dtype=torch.uint8):
    """`patches`: (channel, x1, y1, x2, y2)."""
    image = torch.zeros(3, height, width, dtype=dtype)
    for channel, x1, y1, x2, y2 in patches:
        image[channel, y1:y2, x1:x2] = 255
    return {"image": image, "prompt": Prompt.from_classes(COLORS)}


def augmented(model=None, sizes=(40,), **options):
    return GLIPWithTTA(model or PatchFinder(), min_sizes=sizes, **options).eval()


RED, BLUE = (2, 5, 7, 19, 30), (0, 40, 3, 58, 12)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_mirrored_boxes_come_back_exactly(dtype):
    model = PatchFinder()
    inputs = picture(RED, dtype=dtype)
    (output,) = augmented(model)([inputs])
    assert len(model.views) == 2
    assert torch.equal(model.views[0], inputs["image"])
    assert torch.equal(model.views[1], inputs["image"].flip(2))
    # Both views found the same box, so one is left.
    instances = output["instances"]
    assert instances.pred_boxes.tensor.tolist() == [[5, 7, 19, 30]]
    assert instances.pred_classes.tolist() == [2] and list(instances.pred_phrases) == ["red"]


def test_each_view_maps_back_to_the_same_box():
    model = PatchFinder()
    tta = augmented(model, sizes=(40, 80, 120))
    model.postprocessor.nms_threshold = 2.0  # keep all views
    (output,) = tta([picture(RED)])
    boxes = output["instances"].pred_boxes.tensor
    assert [v.shape[1:] for v in model.views] == [
        (40, 60), (40, 60), (80, 120), (80, 120), (120, 180), (120, 180),
    ]  # fmt: skip
    assert boxes.shape == (6, 4)
    # Interpolation may move an edge of an enlarged view by less than a pixel of the original.
    torch.testing.assert_close(
        boxes, torch.tensor([[5.0, 7, 19, 30]]).expand(6, 4), atol=0.5, rtol=0
    )


def test_output_size_may_differ_from_the_image():
    inputs = {**picture(RED), "height": 80, "width": 180}
    (output,) = augmented()([inputs])
    assert output["instances"].image_size == (80, 180)
    assert output["instances"].pred_boxes.tensor.tolist() == [[15, 14, 57, 60]]


def test_merging_keeps_classes_apart_and_the_best_of_each():
    model = PatchFinder(scores=(0.5, 0.8, 0.7))
    inputs = picture((1, *RED[1:]), RED, BLUE)  # green and red at one place, blue elsewhere
    (output,) = augmented(model)([inputs])
    instances = output["instances"]
    assert list(instances.pred_phrases) == ["green", "red", "blue"]
    assert instances.scores.tolist() == pytest.approx([0.8, 0.7, 0.5])
    assert instances.pred_boxes.tensor.tolist() == [
        [5, 7, 19, 30], [5, 7, 19, 30], [40, 3, 58, 12],
    ]  # fmt: skip


def test_keeps_the_best_detections():
    inputs = picture((1, 1, 1, 9, 9), RED, BLUE)
    (output,) = augmented(detections_per_image=2)([inputs])
    assert list(output["instances"].pred_phrases) == ["blue", "green"]


@pytest.mark.parametrize(
    "caption, views",
    [
        ("the [dog] on the left", 1),
        ("the [Right] hand", 1),
        ("a [bright] light", 2),
        ("a [leftover] cake", 2),
    ],
)
def test_prompts_about_directions_are_not_mirrored(caption, views):
    for prompt in (Prompt.parse(caption), [Prompt.from_classes(["cat"]), Prompt.parse(caption)]):
        model = PatchFinder()
        augmented(model)([{**picture(RED), "prompt": prompt}])
        assert len(model.views) == views


@pytest.mark.parametrize("names, views", [(["left shoe"], 1), (["shoe"], 2)])
def test_the_default_vocabulary_counts_as_well(names, views):
    model = PatchFinder()
    model.vocabulary_prompts = [Prompt.from_classes(names)]
    inputs = picture(RED)
    del inputs["prompt"]
    augmented(model)([inputs])
    assert len(model.views) == views


def test_without_flip():
    model = PatchFinder()
    augmented(model, flip=False, sizes=(40, 20))([picture(RED)])
    assert [v.shape[1] for v in model.views] == [40, 20]


def test_nothing_found():
    (output,) = augmented()([picture()])
    assert len(output["instances"]) == 0
    assert output["instances"].pred_boxes.tensor.shape == (0, 4)


def test_each_image_of_a_batch_has_its_own_detections():
    outputs = augmented()([picture(RED), picture(BLUE)])
    assert [list(o["instances"].pred_phrases) for o in outputs] == [["red"], ["blue"]]


def test_evaluation_only():
    with pytest.raises(RuntimeError, match="eval"):
        augmented().train()([picture(RED)])


def test_no_sizes():
    with pytest.raises(ValueError, match="min_sizes"):
        GLIPWithTTA(PatchFinder(), min_sizes=())


def test_wraps_the_real_model(shared_model):
    """One view at the image's own size is the plain model, and its door stays open."""
    inputs = {
        "image": torch.randint(0, 256, (3, 64, 96), generator=torch.Generator().manual_seed(0)),
        "prompt": Prompt.from_classes(["cat", "dog"]),
    }
    inputs["image"] = inputs["image"].to(torch.uint8)
    tta = GLIPWithTTA(shared_model, min_sizes=(64,), flip=False).eval()
    assert tta.tokenizer is shared_model.tokenizer and tta.device == shared_model.device
    assert tta.input_format == "BGR"
    with torch.no_grad():
        expected = shared_model([inputs])[0]["instances"]
    (output,) = tta([inputs])
    assert len(expected) > 5
    assert torch.equal(output["instances"].scores, expected.scores)
    assert torch.equal(output["instances"].pred_boxes.tensor, expected.pred_boxes.tensor)


def test_augmentation_at_test_time_averages_masks_of_the_boxes_kept(monkeypatch):
    model = tiny_masks_model().eval()
    tta = GLIPWithTTA(model, min_sizes=(64, 96), flip=True, detections_per_image=12).eval()
    asked, original = [], model.mask_head.refine
    monkeypatch.setattr(
        model.mask_head, "refine", lambda *args: asked.append(args[2]) or original(*args)
    )
    picture = {**tiny_question(CATS), "height": 128, "width": 192}
    (small,) = tta.inference([picture], do_postprocess=False)
    assert [[len(boxes) for boxes in call] for call in asked] == 4 * [[12]]  # of 4 views
    (found,) = detect(tta, picture)
    assert found.pred_masks.shape == (12, 128, 192) and found.pred_masks.any(2).any(1).all()
    assert torch.equal(found.pred_masks, postprocess(small, picture).pred_masks)

    x0, y0, x1, y1 = found.pred_boxes.tensor.unbind(1)
    mirrored = torch.stack((192 - x1, y0, 192 - x0, y1), dim=1)
    views = []
    for scale, flip in [(1, False), (1, True), (1.5, False), (1.5, True)]:
        resized = ResizeShortestEdge(int(64 * scale), 2000)
        image = picture["image"].permute(1, 2, 0).numpy()
        image = torch.from_numpy(resized.get_transform(image).apply_image(image).copy()).permute(
            2, 0, 1
        )
        boxes = (mirrored if flip else found.pred_boxes.tensor) * scale / 2
        there = Instances(
            tuple(image.shape[1:]), pred_boxes=Boxes(boxes), pred_classes=found.pred_classes
        )
        view = {**picture, "image": image.flip(2) if flip else image}
        (seen,) = model.inference([view], [there], do_postprocess=False)
        masks = seen.pred_masks.tensor
        views.append(masks.flip(2) if flip else masks)
    torch.testing.assert_close(small.pred_masks.tensor, sum(views) / 4, rtol=0, atol=1e-5)
    assert (views[0] - views[1]).abs().max() > 1e-3


def test_augmentation_at_test_time_without_masks_or_boxes(monkeypatch):
    model = tiny_masks_model().eval()
    tta = GLIPWithTTA(model, min_sizes=(64,)).eval()
    with monkeypatch.context() as patch:
        patch.setattr(model.mask_head, "refine", None)  # not asked
        (found,) = detect(tta, {**tiny_question(CATS), "boxes_only": True})
        assert len(found) > 20 and not found.has("pred_masks")
    monkeypatch.setattr(model.postprocessor, "score_threshold", 1.0)
    (found,) = detect(tta, tiny_question(CATS))
    assert found.pred_masks.shape == (0, 64, 96)
