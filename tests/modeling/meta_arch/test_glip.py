"""GLIP end to end on the tiny model: the contract of Detectron2, and its own."""

import copy
import io
import pickle

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import get_cfg, instantiate
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, pairwise_iou
from torch import nn

from glipv2_d2 import add_glip_config
from glipv2_d2.errors import ConfigError, PromptError, PromptTooLongError
from glipv2_d2.language import Prompt
from glipv2_d2.modeling import GLIP
from glipv2_d2.modeling.fusion import DyHead
from tests.support.tiny import detect, tiny_config, tiny_input, tiny_model, tiny_question

LOSSES = {"loss_token", "loss_box", "loss_centerness"}


def prompt_of(*names, class_ids=None):
    return Prompt.from_classes(names, class_ids)


CATS = prompt_of("cat", "red kite", "dog")
SHOPS = prompt_of("shop window", "bus")


def assert_same(actual, expected, atol=0.0):
    """The same detections in the same order; `atol` in pixels (scores: a thousandth of it)."""
    assert len(expected) > 5
    assert len(actual) == len(expected)
    torch.testing.assert_close(actual.scores, expected.scores, atol=atol / 1000, rtol=0)
    assert torch.equal(actual.pred_classes, expected.pred_classes)
    assert list(actual.pred_phrases) == list(expected.pred_phrases)
    torch.testing.assert_close(
        actual.pred_boxes.tensor, expected.pred_boxes.tensor, atol=atol, rtol=0
    )


# Training


def test_training_losses(model):
    losses = model.train()([tiny_input(seed=0), tiny_input(seed=1)])
    assert set(losses) == LOSSES
    for loss in losses.values():
        assert loss.shape == () and loss.isfinite() and loss > 0 and loss.requires_grad


@pytest.mark.parametrize("boxes", [((8, 8, 40, 40), (30, 10, 80, 60)), ()], ids=["boxes", "none"])
def test_every_parameter_gets_a_gradient(model, boxes):
    """Without boxes too, or a distributed run would wait for ever."""
    classes = (0, 2)[: len(boxes)]
    losses = model.train()([tiny_input(boxes=boxes, classes=classes)])
    assert (losses["loss_box"] == 0) == (losses["loss_centerness"] == 0) == (not boxes)
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert model.backbone.bottom_up.patch_embed.proj.weight.grad.any()
    assert model.language_backbone.body.embeddings.word_embeddings.weight.grad.any()


def test_training_reduces_the_loss(model):
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    totals = []
    for _ in range(12):
        loss = sum(model([tiny_input()]).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.append(loss.item())
    assert totals[-1] < 0.7 * totals[0]


@pytest.mark.parametrize("height, width", [(37, 61), (33, 129), (20, 20)])
def test_odd_sizes(model, height, width):
    inputs = tiny_input(height, width, boxes=((2, 3, 17, 19),), classes=(1,))
    losses = model.train()([inputs, tiny_input(height + 9, width, boxes=(), classes=())])
    assert all(loss.isfinite() for loss in losses.values())
    (instances,) = detect(model.eval(), tiny_question(CATS, height, width))
    assert instances.image_size == (height, width)
    boxes = instances.pred_boxes.tensor
    assert len(boxes) and (boxes >= 0).all()
    assert (boxes[:, 2] <= width).all() and (boxes[:, 3] <= height).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_boxes_are_continuous_outside_and_inclusive_inside(model):
    run = model.train().forward_training([tiny_input(boxes=((8, 8, 40, 40),), classes=(2,))])
    assert run.targets.boxes[0].tolist() == [[8, 8, 39, 39]]
    # The third name: "cat. dog. red kite" is [CLS] cat . dog . red kite [SEP].
    assert run.targets.tokens[0].tolist() == [[False] * 5 + [True, True, False]]
    assert run.anchors[0][0].tolist() == [-28, -28, 35, 35]


def test_prompts_of_different_lengths_train_together(model):
    short = tiny_input(names=("cat",), boxes=((8, 8, 40, 40),), classes=(0,), seed=0)
    long = tiny_input(names=("a very old bus", "cat", "dog"), seed=1)
    model.train()
    single = [model([x]) for x in (short, long)]
    both = model([short, long])
    assert all(loss.isfinite() for loss in both.values())
    low = min(s["loss_token"] for s in single)
    high = max(s["loss_token"] for s in single)
    assert low <= both["loss_token"] <= high  # the mean, weighted by the numbers of positives


# Inference


def test_output_is_detectron2s(shared_model):
    (output,) = shared_model([tiny_question(prompt_of("cat", "dog", class_ids=[7, 3]))])
    instances = output["instances"]
    assert list(output) == ["instances"] and isinstance(instances, Instances)
    assert set(instances.get_fields()) == {"pred_boxes", "scores", "pred_classes", "pred_phrases"}
    assert isinstance(instances.pred_boxes, Boxes)
    names = {7: "cat", 3: "dog"}
    assert {names[c] for c in instances.pred_classes.tolist()} == {"cat", "dog"}
    assert list(instances.pred_phrases) == [names[c] for c in instances.pred_classes.tolist()]
    assert (instances.scores.diff() <= 0).all() and instances.scores.max() <= 1


def test_each_image_has_its_own_prompt(shared_model):
    """A batch equals its images one by one; prompts of different lengths, images of one size."""
    first, second = tiny_question(CATS, seed=1), tiny_question(SHOPS, seed=2)
    together = detect(shared_model, first, second)
    # Batched products round differently.
    assert_same(together[0], detect(shared_model, first)[0], atol=1e-2)
    assert_same(together[1], detect(shared_model, second)[0], atol=1e-2)
    swapped = detect(shared_model, tiny_question(SHOPS, seed=1))[0]
    assert set(swapped.pred_phrases) <= {"shop window", "bus"}


# Padded to 64 x 64, 64 x 96, 32 x 256 and, another size but padded alike, 64 x 64.
SIZES = ((40, 50), (64, 96), (20, 230), (64, 64))


def test_what_is_found_does_not_depend_on_the_other_images_of_the_batch(shared_model):
    inputs = [tiny_question(CATS, *size, seed=i) for i, size in enumerate(SIZES)]
    inputs[2]["prompt"] = [CATS, prompt_of("bus", class_ids=[5])]
    for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
        together = detect(shared_model, *(inputs[i] for i in order))
        for i, found in zip(order, together):
            # Of products of a batch of another size: float32 rounds differently.
            assert_same(found, detect(shared_model, inputs[i])[0], atol=1e-2)


def test_smaller_image_of_a_batch_is_clipped_to_its_own_size(shared_model):
    small, large = detect(
        shared_model, tiny_question(CATS, 40, 50), tiny_question(CATS, 64, 96, seed=1)
    )
    assert small.image_size == (40, 50) and large.image_size == (64, 96)
    boxes, others = small.pred_boxes.tensor, large.pred_boxes.tensor
    assert (boxes[:, 2] <= 50).all() and (boxes[:, 3] <= 40).all()
    assert others[:, 2].max() > 80 and others[:, 3].max() > 50


def test_boxes_are_scaled_to_the_wanted_size(shared_model):
    (plain,) = detect(shared_model, tiny_question(CATS, height=64, width=96))
    inputs = {**tiny_question(CATS), "height": 128, "width": 48}
    (scaled,) = detect(shared_model, inputs)
    assert scaled.image_size == (128, 48)
    factors = torch.tensor([0.5, 2.0, 0.5, 2.0])
    torch.testing.assert_close(scaled.pred_boxes.tensor, plain.pred_boxes.tensor * factors)
    without = {k: v for k, v in tiny_question(CATS).items() if k not in ("height", "width")}
    assert_same(detect(shared_model, without)[0], plain)


def test_uint8_and_float32_images_give_the_same(shared_model):
    inputs = tiny_question(CATS)
    as_float = {**inputs, "image": inputs["image"].float()}
    assert_same(detect(shared_model, as_float)[0], detect(shared_model, inputs)[0])


def test_pixels_are_normalized_per_channel(shared_model):
    mean, std = shared_model.pixel_mean.flatten(), shared_model.pixel_std.flatten()
    assert mean.tolist() == pytest.approx([103.53, 116.28, 123.675])  # blue, green, red
    image = (mean + std * torch.tensor([1.0, -2.0, 0.5])).view(3, 1, 1).expand(3, 40, 50)
    images = shared_model.preprocess_image([{"image": image}])
    assert images.tensor.shape == (1, 3, 64, 64)  # a multiple of 32
    torch.testing.assert_close(
        images.tensor[0, :, :40, :50],
        torch.tensor([1.0, -2.0, 0.5]).view(3, 1, 1).expand(3, 40, 50),
    )
    assert not images.tensor[..., 40:, :].any() and not images.tensor[..., 50:].any()


def test_class_with_two_names_is_their_maximum(shared_model):
    apart = detect(shared_model, tiny_question(prompt_of("cat", "kitten", class_ids=[0, 1])))[0]
    merged = detect(shared_model, tiny_question(prompt_of("cat", "kitten", class_ids=[4, 4])))[0]
    assert set(merged.pred_classes.tolist()) == {4} and set(merged.pred_phrases) == {"cat"}
    assert merged.scores[0] == apart.scores[0]


# Vocabularies


NAMES = ("cat", "dog", "red kite", "bus", "shop window")


def test_list_of_prompts_is_the_union_of_its_prompts(shared_model):
    prompts = [prompt_of("cat", "dog"), prompt_of("bus", class_ids=[5])]
    (together,) = detect(shared_model, tiny_question(prompts))
    apart = Instances.cat([detect(shared_model, tiny_question(p))[0] for p in prompts])
    assert_same(together, apart[apart.scores.argsort(descending=True, stable=True)], atol=1e-2)


def test_two_names_of_a_class_in_two_prompts_are_one_class(shared_model):
    prompts = [prompt_of("cat", "dog", class_ids=[4, 1]), prompt_of("kitten", class_ids=[4])]
    found = detect(shared_model, tiny_question(prompts))[0]
    apart = [detect(shared_model, tiny_question(p))[0] for p in prompts]
    cats = found[found.pred_classes == 4]
    best = max(a.scores[a.pred_classes == 4][0].item() for a in apart)
    assert cats.scores[0].item() == pytest.approx(best, abs=1e-6)
    overlaps = pairwise_iou(cats.pred_boxes, cats.pred_boxes).fill_diagonal_(0)
    assert overlaps.max() <= shared_model.postprocessor.nms_threshold + 1e-4
    reversed_order = detect(shared_model, tiny_question(prompts[::-1]))[
        0
    ]  # "kitten" names the class
    torch.testing.assert_close(reversed_order.scores, found.scores, atol=1e-5, rtol=0)
    assert torch.equal(reversed_order.pred_classes, found.pred_classes)


@pytest.mark.parametrize("prompt_batch_size", [1, 2, 8])
def test_chunks_in_any_order_and_batch_give_the_same(model, prompt_batch_size):
    chunks = model.tokenizer.split(NAMES, size=2)
    assert len(chunks) == 3
    expected = detect(model, tiny_question(chunks))[0]
    model.prompt_batch_size = prompt_batch_size
    for order in ((0, 1, 2), (2, 0, 1)):
        (actual,) = detect(model, tiny_question([chunks[i] for i in order]))
        assert_same(actual, expected, atol=1e-2)
    assert set(expected.pred_phrases) == set(NAMES)


def test_images_with_different_numbers_of_chunks(model):
    chunks = model.tokenizer.split(NAMES, size=2)
    model.prompt_batch_size = 2  # a batch of pairs that spans two images
    many, one = detect(model, tiny_question(chunks, seed=1), tiny_question(SHOPS, seed=2))
    assert_same(many, detect(model, tiny_question(chunks, seed=1))[0], atol=1e-2)
    assert_same(one, detect(model, tiny_question(SHOPS, seed=2))[0], atol=1e-2)


def test_image_is_encoded_once_and_each_prompt_once(model):
    calls = {"backbone": 0, "text": 0}

    def count(name):
        return lambda *_: calls.update({name: calls[name] + 1})

    model.backbone.register_forward_hook(count("backbone"))
    model.language_backbone.register_forward_hook(count("text"))
    model.prompt_batch_size = 1
    chunks = model.tokenizer.split(NAMES, size=2)
    detect(model, tiny_question(chunks))
    assert calls == {"backbone": 1, "text": 3}
    detect(model, tiny_question(chunks, seed=1))
    assert calls == {"backbone": 2, "text": 3}


def test_default_vocabulary_serves_inputs_without_a_prompt(model):
    model.chunk_size = 2
    model.set_vocabulary(NAMES)
    (actual,) = detect(model, tiny_question(None))
    assert_same(actual, detect(model, tiny_question(model.tokenizer.split(NAMES, size=2)))[0])
    assert list(actual.pred_phrases) == [NAMES[c] for c in actual.pred_classes.tolist()]
    mixed = detect(model, tiny_question(None), tiny_question(SHOPS, seed=1))
    assert set(mixed[1].pred_phrases) <= {"shop window", "bus"}
    model.set_vocabulary(["bus"])
    assert set(detect(model, tiny_question(None))[0].pred_phrases) == {"bus"}


def test_vocabulary_of_the_constructor():
    config = tiny_config()
    config.vocabulary, config.chunk_size = list(NAMES), 3
    model = instantiate(config)
    assert [p.names for p in model.vocabulary_prompts] == [NAMES[:3], NAMES[3:]]
    assert [p.class_ids for p in model.vocabulary_prompts] == [(0, 1, 2), (3, 4)]


# Wrong inputs


def test_no_prompt(shared_model):
    for prompt in (None, []):
        with pytest.raises(PromptError, match="set_vocabulary"):
            shared_model([tiny_question(prompt)])


def test_prompt_of_another_kind(shared_model):
    for prompt in ("cat", ["cat", "dog"], {"cat": 1}):
        with pytest.raises(PromptError, match=r"'cat' of type str.*Prompt\.from_classes"):
            shared_model([tiny_question(prompt)])


def test_several_prompts_in_training(model):
    inputs = tiny_input()
    inputs["prompt"] = [inputs["prompt"]]
    model.train()([inputs])  # a list of one is one
    inputs["prompt"] = [CATS, SHOPS]
    with pytest.raises(PromptError, match="exactly one prompt per image, got 2"):
        model([inputs])


def test_empty_batch(model):
    for mode in (True, False):
        with pytest.raises(ValueError, match="batch is empty"):
            model.train(mode)([])


def test_prompt_too_long(model):
    prompt = prompt_of(*(f"thing {i}" for i in range(100)))
    with pytest.raises(PromptTooLongError, match="256"):
        model([tiny_question(prompt)])
    inputs = tiny_input(names=[f"thing {i}" for i in range(100)])
    with pytest.raises(PromptTooLongError, match="256"):
        model.train()([inputs])


# Precision, copies and other builds


def test_bf16_autocast_trains(model):
    model.train()
    batch = [tiny_input()]
    expected = model(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(batch)
    sum(losses.values()).backward()
    for name, loss in losses.items():
        # Eight bits of mantissa through two blocks.
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(expected[name].item(), rel=0.05), name
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_bf16_autocast_detects_nearly_the_same(shared_model):
    (expected,) = detect(shared_model, tiny_question(CATS))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (actual,) = detect(shared_model, tiny_question(CATS))
    assert actual.scores.dtype == torch.float32 and actual.scores.isfinite().all()
    assert actual.scores[0].item() == pytest.approx(expected.scores[0].item(), abs=0.05)
    assert abs(len(actual) - len(expected)) <= 0.1 * len(expected)


PRECISIONS = {torch.float16: 0.05, torch.bfloat16: 0.05, torch.float64: 1e-4}


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
def test_parameters_in_another_precision(model, dtype):
    """half(), bfloat16() and double(): images go in as the parameters are."""
    (expected,) = detect(model, tiny_question(CATS))
    (actual,) = detect(model.to(dtype), tiny_question(CATS))
    assert abs(len(actual) - len(expected)) <= 0.1 * len(expected)
    best = slice(0, 10)
    torch.testing.assert_close(
        actual.scores[best].double(), expected.scores[best].double(), atol=PRECISIONS[dtype], rtol=0
    )
    assert actual.scores.dtype == torch.promote_types(dtype, torch.float32)


def test_quantized_models_are_refused(model):
    quantized = torch.ao.quantization.quantize_dynamic(model)
    with pytest.raises(ConfigError, match="a quantized GLIP does not run"):
        detect(quantized, tiny_question(CATS))


def test_deepcopy_and_pickle(shared_model):
    expected = detect(shared_model, tiny_question(CATS))[0]
    for twin in (copy.deepcopy(shared_model), pickle.loads(pickle.dumps(shared_model))):
        assert twin.text_cache._encoder is twin.language_backbone
        assert_same(detect(twin, tiny_question(CATS))[0], expected)
    # The copy's cache is its own: new weights in one do not show in the other.
    twin = copy.deepcopy(shared_model)
    with torch.no_grad():
        twin.language_backbone.body.embeddings.LayerNorm.weight.mul_(3)
    assert not torch.equal(detect(twin, tiny_question(CATS))[0].scores[:5], expected.scores[:5])
    assert_same(detect(shared_model, tiny_question(CATS))[0], expected)


def test_state_dict_round_trip(model, shared_model):
    file = io.BytesIO()
    torch.save(shared_model.state_dict(), file)
    file.seek(0)
    expected = detect(shared_model, tiny_question(CATS))[0]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    assert not torch.equal(detect(model, tiny_question(CATS))[0].scores[:5], expected.scores[:5])
    model.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert_same(detect(model, tiny_question(CATS))[0], expected)


def test_names_of_the_state_dict(shared_model):
    """Attribute names are config keys and prefixes of the state dict; no derived buffers in it."""
    prefixes = {name.split(".")[0] for name in shared_model.state_dict()}
    assert prefixes <= {"backbone", "language_backbone", "neck", "head", "anchor_generator"}
    assert {n for n, _ in shared_model.named_parameters()} <= set(shared_model.state_dict())


def test_without_deep_fusion():
    """GLIP-T (A): the vision-only tower; the words are the language backbone's."""
    config = tiny_config()
    config.neck = L(DyHead)(num_blocks=1, channels="${..backbone.out_channels}")
    config.head.text_channels = 32
    torch.manual_seed(0)
    model = instantiate(config).train()
    losses = model([tiny_input(), tiny_input(names=("bus", "cat"), classes=(0, 1), seed=1)])
    sum(losses.values()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    nn.init.zeros_(model.head.bias0)
    first, second = detect(model.eval(), tiny_question(CATS), tiny_question(SHOPS, seed=1))
    assert len(first) and set(second.pred_phrases) <= {"shop window", "bus"}


def test_through_yacs(tmp_path):
    """The vocabulary is that of the first test set."""
    path = tmp_path / "tiny_model.py"
    path.write_text("from tests.support.tiny import tiny_config\n\nmodel = tiny_config()\n")
    MetadataCatalog.get("glip_test_vocabulary").thing_classes = list(NAMES)
    cfg = get_cfg()
    add_glip_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "GLIP"
    cfg.MODEL.GLIP.CONFIG = str(path)
    cfg.DATASETS.TEST = ("glip_test_vocabulary",)
    model = build_model(cfg)
    assert isinstance(model, GLIP)
    assert [p.names for p in model.vocabulary_prompts] == [NAMES]


@pytest.mark.parametrize("size", [0, -1])
def test_no_prompt_at_once_is_refused(size):
    with pytest.raises(ConfigError, match=f"prompt_batch_size must be a number from 1, got {size}"):
        tiny_model(prompt_batch_size=size)
