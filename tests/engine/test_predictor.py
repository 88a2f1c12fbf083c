"""GroundingPredictor, and the same model through Detectron2's own doors."""

import io
import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from detectron2.structures import ROIMasks, pairwise_iou
from PIL import Image

from glipv2_d2 import Prompt, add_glip_config
from glipv2_d2.checkpoint import release_state, save_prompt, save_safetensors
from glipv2_d2.engine.predictor import GroundingPredictor
from glipv2_d2.errors import CheckpointError, ConfigError, PromptError, UserError
from tests.support.official_weights import official_state
from tests.support.tiny import tiny_masks_model, tiny_model

NAMES = ["cat", "dog", "red kite"]


def image(height=64, width=80, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def guessing_model():
    torch.manual_seed(0)
    # An untrained model is sure of nothing: let its best guesses through.
    return tiny_model(**{"postprocessor.score_threshold": 0.0})


@pytest.fixture(scope="module")
def predictor(guessing_model):
    return GroundingPredictor(guessing_model, min_size=64, max_size=128, batch_size=2)


def same(a, b):
    torch.testing.assert_close(a.pred_boxes.tensor, b.pred_boxes.tensor, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(a.scores, b.scores, atol=1e-5, rtol=1e-4)
    assert list(a.pred_phrases) == list(b.pred_phrases)


def test_tuned_prompts_are_asked_of_every_image_and_their_classes_numbered_on(tmp_path):
    source = tiny_model()
    for name, names in (("pets", NAMES), ("signs", ["stop", "exit"])):
        tuned = source.tokenizer.split(names, size=2)
        tuned = [replace(p, embedding_id=f"{name}/{i}") for i, p in enumerate(tuned)]
        for seed, prompt in enumerate(tuned):
            length = source.tokenizer.num_tokens(prompt.caption)
            generator = torch.Generator().manual_seed(seed)
            offsets = torch.randn(length, 32, generator=generator)
            source.prompt_embeddings.add(prompt.embedding_id, offsets)
        save_prompt(source, tmp_path / f"{name}.safetensors", tuned, name=name)
    model = tiny_model(**{"postprocessor.score_threshold": 0.0})
    predictor = GroundingPredictor(model, min_size=64, max_size=128)
    pets, signs = (predictor.load_prompt(tmp_path / f"{n}.safetensors") for n in ("pets", "signs"))
    images = [image(seed=0), image(seed=1)]
    for alone in predictor(images, pets):
        assert {*zip(alone.pred_classes.tolist(), alone.pred_phrases)} == {*enumerate(NAMES)}
    both = predictor.set_image(images[0]).predict([*pets, *signs])
    every = {*enumerate([*NAMES, "stop", "exit"])}
    assert {*zip(both.pred_classes.tolist(), both.pred_phrases)} == every
    mixed = predictor(images, [signs, "cat, dog"])  # one for each image, a plain one among them
    assert [{*found.pred_phrases} for found in mixed] == [{"stop", "exit"}, {"cat", "dog"}]


def test_class_list(predictor):
    (result,) = predictor(image(), NAMES)
    assert result.image_size == (64, 80)
    assert len(result) > 0
    assert set(result.pred_phrases) <= set(NAMES)
    assert [NAMES[i] for i in result.pred_classes.tolist()] == list(result.pred_phrases)
    assert (result.scores[:-1] >= result.scores[1:]).all()
    assert result.pred_boxes.tensor[:, 2].max() <= 80


def test_captions(predictor):
    (marked,) = predictor(image(), "a [red kite] above a [dog]")
    assert set(marked.pred_phrases) <= {"red kite", "dog"}
    (found,) = predictor(image(), "a red kite above a dog")
    assert len(found) > 0
    spans = [[(2, 10)], [(19, 22)]]
    (given,) = predictor(image(), Prompt.from_caption("a red kite above a dog", spans))
    same(given, marked)


def test_names_in_a_text_are_the_classes_of_a_list(predictor):
    (listed,) = predictor(image(), ["trash can", "steering wheel", "red kite"])
    (text,) = predictor(image(), "trash can . steering wheel . red kite .")
    same(text, listed)
    same(predictor(image(), "legging")[0], predictor(image(), ["legging"])[0])
    many = [f"thing number {i}" for i in range(300)]  # no single prompt holds them
    same(predictor(image(), ". ".join(many))[0], predictor(image(), many)[0])


def test_emoji_are_warned_of_by_name(predictor, caplog):
    predictor(image(), ["\N{CAT FACE}", "cat", "\N{DOG FACE}"])
    assert "'\N{CAT FACE}', '\N{DOG FACE}'" in caplog.text


def test_paths_and_arrays_agree(predictor, tmp_path):
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), image())
    same(predictor(str(path), NAMES)[0], predictor(image(), NAMES)[0])
    same(predictor(path, NAMES)[0], predictor(image(), NAMES)[0])


def test_pil_images_bytes_and_open_files_agree_with_arrays(predictor):
    expected = predictor(image(), NAMES)[0]
    pil = Image.fromarray(image()[:, :, ::-1])
    pil.save(file := io.BytesIO(), "png")
    for given in (pil, file.getvalue(), file):
        same(predictor(given, NAMES)[0], expected)
    several = predictor((x for x in (pil, image())), NAMES)
    assert len(several) == 2
    same(several[0], several[1])


def test_batches_equal_single_images(predictor):
    images = [image(64, 80, 1), image(64, 80, 2), image(64, 80, 3)]
    together = predictor(images, NAMES)
    assert len(together) == 3
    for pixels, result in zip(images, together):
        same(result, predictor(pixels, NAMES)[0])


def test_images_of_other_sizes_in_a_batch_change_nothing(guessing_model):
    """A panorama in a batch would have every other image padded to its size."""
    predictor = GroundingPredictor(guessing_model, min_size=64, max_size=192, batch_size=3)
    shapes = [(64, 80), (30, 120), (64, 80), (90, 60), (64, 66)]
    images = [image(*shape, seed) for seed, shape in enumerate(shapes)]
    for pixels, result in zip(images, predictor(images, NAMES)):
        assert result.image_size == pixels.shape[:2]
        same(result, predictor(pixels, NAMES)[0])


def test_a_prompt_for_each_image(predictor):
    images = [image(seed=1), image(seed=2)]
    one, two = predictor(images, [["cat"], Prompt.parse("a [dog] on a [red kite]")])
    assert set(one.pred_phrases) == {"cat"}
    assert set(two.pred_phrases) <= {"dog", "red kite"}
    with pytest.raises(ValueError, match="3 prompts are given for 2 images"):
        predictor(images, [["cat"], ["dog"], ["bird"]])


def test_strings_with_brackets_are_captions_of_one_image_each(predictor):
    images = [image(seed=1), image(seed=2)]
    captions = ["a [red kite] and a [dog]", "a [cat]"]
    found = predictor(images, captions)
    for result, pixels, caption in zip(found, images, captions):
        same(result, predictor(pixels, Prompt.parse(caption))[0])
    (one,) = predictor(images[0], captions[:1])
    same(one, found[0])
    nested = predictor(images, [captions[:1], ["cat", "dog"]])
    same(nested[0], found[0])
    assert set(nested[1].pred_phrases) <= {"cat", "dog"}


@pytest.mark.parametrize(
    ("count", "prompts", "message"),
    [
        (3, ["a [cat]", "a [dog]"], "2 captions are given for 3 images"),
        (1, ["a [cat]", "a [dog]"], "2 captions are given for 1 image:"),
        (2, ["a [cat]"], "1 caption is given for 2 images: .* not in a list"),
        (2, ["a [cat]", "dog"], r"holds both: 'dog' and 'a \[cat\]'"),
        (1, [["a [cat]", "a [dog]"]], "is asked 2 captions"),
        (1, ["cat", "dog]"], "holds both"),
        (1, ["a [cat"], r"'\[' without '\]'"),
        (1, 5, "this one holds int"),
        (1, {"cat": 17, "dog": 3}, "this one holds dict"),  # the numbers would be lost
        (2, [{17: "cat"}, {3: "dog"}], "this one holds dict"),
        (1, b"cat", "this one holds bytes"),
    ],
)
def test_lists_of_strings_with_two_meanings(predictor, count, prompts, message):
    with pytest.raises(UserError, match=message):
        predictor([image()] * count, prompts)


def test_several_words_of_a_class(predictor):
    (kitten,) = predictor(image(), "cat, kitten; dog")
    listed = predictor([image()] * 3, [["cat", "kitten"], "dog"])
    assert set(kitten.pred_phrases) == {"cat", "dog"}  # named by the first word
    assert {*zip(kitten.pred_classes.tolist(), kitten.pred_phrases)} == {(0, "cat"), (1, "dog")}
    same(listed[2], kitten)
    same(predictor.set_image(image()).predict([["cat", "kitten"], "dog"]), kitten)
    per_image = predictor([image()] * 2, [[["cat", "kitten"], ["dog"]], "cat; dog"])
    same(per_image[0], kitten)
    (alone,) = predictor(image(), ["cat", "kitten", "dog"])
    words = alone.scores[alone.pred_classes < 2]
    assert kitten.scores[kitten.pred_classes == 0][0] == words[0]  # the best of both
    with pytest.raises(UserError, match=r"2 names and lists .* \[classes\] \* 2"):
        predictor([image()] * 2, [["cat", "kitten"], "dog"])


def test_negatives(predictor):
    """As if they were classes, but that what they describe better is gone, and they too."""
    (everything,) = predictor(image(), [*NAMES, "bus", "shop window"])
    (found,) = predictor(image(), NAMES, negatives=["bus", "shop window"])
    (plain,) = predictor(image(), NAMES)
    assert 0 < len(found) < len(plain) and set(found.pred_phrases) <= set(NAMES)
    left = {*zip(found.pred_classes.tolist(), found.scores.tolist())}
    assert left < {*zip(everything.pred_classes.tolist(), everything.scores.tolist())}
    wrong = everything[everything.pred_classes >= 3]
    better = wrong.scores > found.scores[:, None]
    assert not (better & (pairwise_iou(found.pred_boxes, wrong.pred_boxes) > 0.61)).any()
    encoded = predictor.set_image(image())
    same(encoded.predict("cat, dog, red kite", negatives="bus, shop window"), found)
    predictor.glip.chunk_size = 2  # in whatever prompt they are
    (chunks,) = predictor(image(), NAMES, negatives=["bus", "shop window"])
    predictor.glip.chunk_size = None
    assert 0 < len(chunks) and set(chunks.pred_phrases) <= set(NAMES)
    caption = "a [cat] on a [dog]"
    (beside,) = predictor(image(), caption, negatives=["bus"])  # in a prompt of their own
    (without,) = predictor(image(), caption)
    assert {*beside.scores.tolist()} < {*without.scores.tolist()}


def test_negatives_with_augmentation(guessing_model):
    augmented = GroundingPredictor(guessing_model, min_size=64, max_size=128)
    augmented.use_test_time_augmentation(flip=False)
    (found,) = augmented(image(), ["cat"], negatives=["bus"])
    assert set(found.pred_classes.tolist()) <= {0}


@pytest.mark.parametrize(
    ("negatives", "message"),
    [
        (["Cat"], "'Cat' is asked for, and is a negative"),
        ("a cat", "'a cat' is asked for"),
        ([None], "negatives are names"),
        (5, "negatives are names"),
        ("[bus]", "square brackets"),
    ],
)
def test_negatives_that_are_none(predictor, negatives, message):
    with pytest.raises(PromptError, match=message):
        predictor(image(), NAMES, negatives=negatives)


def test_threshold(predictor):
    scores = predictor(image(), NAMES)[0].scores
    threshold = float(scores.median())
    (result,) = predictor(image(), NAMES, score_threshold=threshold)
    assert len(result) == int((scores >= threshold).sum())


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("score_threshold", [35, -0.1, math.nan, "0.5", True, None, [0.5]]),
        ("merge_iou", [70, 0, math.nan, "0.5", False]),
        ("batch_size", [0, -1, 1.5, "2", None, math.nan, True]),
        ("min_size", [0, 64.5, "64", None, math.inf]),
        ("max_size", [0, (64, 128), None]),
        ("phrases", ["none", None]),
    ],
)
def test_options_without_sense(guessing_model, predictor, name, values):
    for value in values:
        with pytest.raises(UserError, match=f"{name} must"):
            GroundingPredictor(guessing_model, **{name: value})
        if name == "score_threshold" and value is not None:
            with pytest.raises(UserError, match="score_threshold must"):
                predictor(image(), NAMES, score_threshold=value)


def test_numbers_of_numpy_are_numbers(guessing_model):
    options = {"score_threshold": np.float32(0.5), "min_size": np.int64(64), "merge_iou": 1}
    GroundingPredictor(guessing_model, **options)


def test_one_phrase_for_an_object(guessing_model):
    merged = GroundingPredictor(guessing_model, min_size=64, max_size=128, merge_iou=0.5)
    (several,) = GroundingPredictor(guessing_model, min_size=64, max_size=128)(image(), NAMES)
    (single,) = merged(image(), NAMES)
    assert 0 < len(single) < len(several)
    overlaps = pairwise_iou(single.pred_boxes, single.pred_boxes).fill_diagonal_(0)
    assert overlaps.max() <= 0.5
    assert single.scores[0] == several.scores[0]


@pytest.mark.parametrize("prompt", [[], "", "   ", [""], [[]], [None]])
def test_empty_prompts(predictor, prompt):
    with pytest.raises(PromptError):
        predictor(image(), prompt)


def test_bad_images(predictor, tmp_path):
    with pytest.raises(ValueError, match="no image is given"):
        predictor([], NAMES)
    with pytest.raises(OSError, match="none.png"):
        predictor(tmp_path / "none.png", NAMES)
    for bad in (image()[:, :, 0], image().astype(np.float32), image()[..., [0, 1, 2, 0]]):
        with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8 in BGR"):
            predictor(bad, NAMES)
        with pytest.raises(UserError, match=r"images\[1\] as an array"):
            predictor([image(), bad], NAMES)
    with pytest.raises(UserError, match=r"images\[0\] as a tensor must be \(3, H, W\)"):
        predictor(torch.zeros(64, 80, 3), NAMES)
    with pytest.raises(UserError, match=r"images\[0\] has no pixels"):
        predictor(image()[:0], NAMES)
    with pytest.raises(UserError, match=r"images\[0\] of 1x9000 pixels .* is too narrow"):
        predictor(image(1, 9000), NAMES)
    augmented = GroundingPredictor(predictor.model, min_size=64, max_size=128)
    augmented.use_test_time_augmentation()
    with pytest.raises(UserError, match=r"images\[0\] of 1x9000 pixels .* is too narrow"):
        augmented(image(1, 9000), NAMES)


def test_from_config(guessing_model, tmp_path, tiny_data):
    weights = save_safetensors(
        release_state(guessing_model, torch.float32), tmp_path / "w.safetensors", {}
    )
    config = "tests/support/tiny_train.py"
    options = {"device": "cpu", "overrides": ["model.postprocessor.score_threshold=0.0"]}
    loaded = GroundingPredictor.from_config(config, weights, **options)
    assert (loaded.resize.short_edge_length[0], loaded.resize.max_size) == (96, 128)
    direct = GroundingPredictor(guessing_model, min_size=96, max_size=128)
    same(loaded(image(), NAMES)[0], direct(image(), NAMES)[0])

    with pytest.raises(ConfigError, match="none.py"):
        GroundingPredictor.from_config("none.py", weights)
    with pytest.raises(CheckpointError, match="none.pth"):
        GroundingPredictor.from_config(config, tmp_path / "none.pth", device="cpu")
    for device in ("foo", "cuda:99"):
        with pytest.raises(ConfigError, match=f"device '{device}'"):
            GroundingPredictor.from_config(config, weights, device=device)


def test_from_config_takes_every_option_of_the_class(guessing_model, tmp_path, tiny_data):
    weights = save_safetensors(
        release_state(guessing_model, torch.float32), tmp_path / "w.safetensors", {}
    )
    config = "tests/support/tiny_train.py"
    given = {
        "min_size": 64, "max_size": 100, "score_threshold": 0.25, "merge_iou": 0.6,
        "batch_size": 3, "precision": "bf16", "phrases": "nltk",
    }  # fmt: skip
    loaded = GroundingPredictor.from_config(config, weights, device="cpu", **given)
    assert {name: getattr(loaded, name) for name in given} == given
    config_s = ["inference.merge_iou=0.5", "inference.precision=bf16", "inference.tta=True"]
    own = GroundingPredictor.from_config(config, weights, device="cpu", overrides=config_s)
    assert (own.min_size, own.max_size, own.merge_iou, own.precision) == (96, 128, 0.5, "bf16")
    off = GroundingPredictor.from_config(
        config, weights, device="cpu", overrides=config_s, merge_iou=None, min_size=None
    )
    assert off.merge_iou is None and off.min_size == 96

    # Before anything is read: this file holds no weights.
    (bad := tmp_path / "bad.pth").write_bytes(b"bad")
    with pytest.raises(UserError, match="score_threshold must"):
        GroundingPredictor.from_config(config, bad, device="cpu", score_threshold=35)
    with pytest.raises(UserError, match="precision must"):
        GroundingPredictor.from_config(config, bad, device="cpu", precision="fp16")
    with pytest.raises(UserError, match="merge_iou must"):
        GroundingPredictor.from_config(config, bad, overrides=["inference.merge_iou=50"])
    with pytest.raises(TypeError, match="unexpected keyword argument 'threshold'"):
        GroundingPredictor.from_config(config, bad, threshold=0.5)


def test_from_config_with_official_weights_fetches_none_of_berts(
    guessing_model, tmp_path, tiny_data
):
    weights = tmp_path / "official.pth"
    torch.save({"model": official_state(guessing_model.state_dict()), "optimizer": {}}, weights)
    # The folder of the tiny language model holds no weights: asking for them would fail.
    overrides = ["model.postprocessor.score_threshold=0.0", "model.language_backbone.pretrained=1"]
    loaded = GroundingPredictor.from_config(
        "tests/support/tiny_train.py", weights, device="cpu", overrides=overrides
    )
    direct = GroundingPredictor(guessing_model, min_size=96, max_size=128)
    same(loaded(image(), NAMES)[0], direct(image(), NAMES)[0])


@pytest.mark.parametrize("official", [False, True])
def test_detectron2_build_model_and_default_predictor(
    guessing_model, tmp_path, tiny_data, official
):
    weights = tmp_path / "w.pth"
    state = release_state(guessing_model, torch.float32)
    torch.save({"model": official_state(state, module=True) if official else state}, weights)
    MetadataCatalog.get("tiny_predictor_vocabulary").thing_classes = NAMES
    cfg = get_cfg()
    add_glip_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "GLIP"
    cfg.MODEL.GLIP.CONFIG = "tests/support/tiny_train.py"
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = str(weights)
    cfg.DATASETS.TEST = ("tiny_predictor_vocabulary",)
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 64, 128

    built = build_model(cfg).eval()
    assert type(built) is type(guessing_model)
    stock = DefaultPredictor(cfg)
    stock.model.postprocessor.score_threshold = 0.0
    found = stock(image())["instances"]
    expected = GroundingPredictor(guessing_model, min_size=64, max_size=128)(image(), NAMES)[0]
    # Detectron2 hands the image over as float32.
    order = found.scores.argsort(descending=True, stable=True)
    same(found[order], expected)


def test_test_time_augmentation(guessing_model):
    augmented = GroundingPredictor(guessing_model, min_size=64, max_size=128)
    augmented.use_test_time_augmentation()
    assert [r.short_edge_length[0] for r in augmented.model.resizes][::4] == [32, 64, 96]
    (result,) = augmented(image(), NAMES)
    assert result.image_size == (64, 80) and len(result) > 0
    augmented.use_test_time_augmentation(flip=False)  # replaces, does not nest
    assert augmented.model.model is guessing_model


@pytest.mark.parametrize("augmented", [False, True])
def test_only_masks_of_what_is_returned_are_computed_and_pasted(monkeypatch, augmented):
    model = tiny_masks_model()
    predictor = GroundingPredictor(model, min_size=64, max_size=128)
    if augmented:
        predictor.use_test_time_augmentation(flip=False)
    (everything,) = predictor(image(), NAMES)
    assert everything.pred_masks.shape == (len(everything), 64, 80) and len(everything) > 20
    pasted, original = [], ROIMasks.to_bitmasks
    monkeypatch.setattr(
        ROIMasks,
        "to_bitmasks",
        lambda self, *args: pasted.append(len(self)) or original(self, *args),
    )
    computed, refine = [], model.mask_head.refine
    monkeypatch.setattr(
        model.mask_head, "refine", lambda *args: computed.append(len(args[2][0])) or refine(*args)
    )
    (best,) = predictor(image(), NAMES, score_threshold=everything.scores[4].item())
    assert set(computed) == {len(best)}  # in every view
    assert pasted == [len(best)] and 5 <= len(best) < len(everything)
    assert torch.equal(best.pred_masks, everything.pred_masks[: len(best)])


def test_set_image_and_test_time_augmentation(guessing_model):
    augmented = GroundingPredictor(guessing_model, min_size=64, max_size=128)
    augmented.use_test_time_augmentation()
    with pytest.raises(UserError, match="set_image encodes an image in one size"):
        augmented.set_image(image())


def test_a_model_without_prompts_is_refused():
    with pytest.raises(ValueError, match="Linear takes no prompts"):
        GroundingPredictor(torch.nn.Linear(2, 2))


def test_half_precision(guessing_model, predictor):
    half = GroundingPredictor(
        guessing_model, min_size=64, max_size=128, batch_size=2, precision="bf16"
    )
    (whole,), (result,) = predictor(image(), NAMES), half(image(), NAMES)
    assert result.scores.dtype == torch.float32
    # bf16 keeps 8 bits: scores differ, and no more than some hundredths.
    best = result.scores.sort(descending=True).values[:20]
    expected = whole.scores.sort(descending=True).values[:20]
    assert not torch.equal(best, expected)
    torch.testing.assert_close(best, expected, atol=0.05, rtol=0)


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_unknown_precision(guessing_model, precision):
    with pytest.raises(ValueError, match=r"must be 'fp32' or 'bf16' on cpu, got"):
        GroundingPredictor(guessing_model, precision=precision)
