"""The recipes for questions and captions: their models, what they start from, and one step."""

import functools
from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog
from omegaconf import OmegaConf

from glipv2_d2.config import apply_overrides, get_config, resolve_config
from glipv2_d2.language import Prompt
from tests.support.tiny import tiny_bert_folder, tiny_config, tiny_input
from tests.support.tiny_clip import clip_config

# The recipe, the pre-training that it goes on from, and its new head (Appendix D.2).
GLIPV2 = {
    **{f"vqa/glipv2_{size}_vqa.py": (f"pretrain/glipv2_{size}.py", "vqa_head") for size in "tbh"},
    "vqa/glipv2_t_grounded_vqa.py": ("pretrain/glipv2_t.py", "vqa_head"),
    **{
        f"captioning/glipv2_{size}_caption.py": (f"pretrain/glipv2_{size}.py", "caption_head")
        for size in "tbh"
    },
    **{
        f"captioning/glipv2_{size}_grounded_caption.py": (
            f"pretrain/glipv2_{size}.py", "caption_head"
        )
        for size in "tb"
    },
}  # fmt: skip
CLIP_VIL = {
    "vqa/clip_vil_vqa.py": "vqa_head",
    "vqa/clip_vil_vit_b32_vqa.py": "vqa_head",
    "vqa/clip_vil_gqa.py": "vqa_head",
    "vqa/clip_vil_snli_ve.py": "vqa_head",
    "captioning/clip_vil_caption.py": "caption_head",
}
RESNET, VIT = "vqa/clip_vil_vqa.py", "vqa/clip_vil_vit_b32_vqa.py"
ANSWERS = ["yes", "no", "2"]

# Read and built once for all tests, which only look at them.
recipe = functools.lru_cache(get_config)


def with_answers(model):
    """A copy, with a list in the place of the file of one."""
    model = model.copy()
    if "vqa_head" in model:
        model.vqa_head.answers = ANSWERS
    return model


def test_every_recipe_is_tested():
    found = {
        f"{folder}/{path.name}"
        for folder in ("vqa", "captioning")
        for path in Path(resolve_config("eval/coco.py")).parents[1].joinpath(folder).glob("*.py")
    }
    assert found == GLIPV2.keys() | CLIP_VIL.keys()


@pytest.mark.parametrize("path", GLIPV2)
def test_a_recipe_of_glipv2_adds_its_head_to_the_first_stage(path):
    before, head = GLIPV2[path]
    first = recipe(before)
    assert recipe(path).train.init_checkpoint == f"{first.train.output_dir}/model_final.pth"
    own, pretrained = (OmegaConf.to_container(c.model) for c in (recipe(path), first))
    assert own.pop(head)["weight"] == 1.0
    # Only GLIP's losses stand beside the head's.
    assert own.pop("contrast") is None and own.pop("mlm_head") is None
    vocabulary = pretrained.pop("mlm_head")["vocabulary_size"]
    del pretrained["contrast"]
    assert own == pretrained
    if head == "caption_head":
        assert recipe(path).model.caption_head.vocabulary_size == vocabulary


@pytest.mark.parametrize("path", [*GLIPV2, *CLIP_VIL])
def test_the_data_sets_are_registered(path):
    loaders = recipe(path).dataloader
    train = [entry if isinstance(entry, str) else entry[0] for entry in loaders.train.datasets]
    assert {*train, loaders.test.dataset} <= set(DatasetCatalog.list())


def test_a_model_that_grounds_answers_is_asked_with_the_mask():
    assert recipe("vqa/glipv2_t_grounded_vqa.py").model.vqa_head.ground_answer is True
    assert recipe("vqa/glipv2_t_vqa.py").model.vqa_head.ground_answer is False


@pytest.mark.parametrize("path", GLIPV2)
def test_rates_of_glipv2(path):
    """Those of its fine-tuning on boxes (Appendix D.2); 1e-4 for what is new."""
    optimizer = recipe(path).optimizer
    assert optimizer.lr == (1e-5 if "glipv2_t" in path else 5e-6)
    assert optimizer.params.lr_by_prefix == {GLIPV2[path][1]: 1e-4}


def test_answer_lists_lie_with_the_other_data(monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", "elsewhere")
    for path in (*GLIPV2, *CLIP_VIL):
        answers = recipe(path).model.get("vqa_head", {}).get("answers", "")
        folder = "gqa" if "gqa" in path else "vqav2"
        assert not isinstance(answers, str) or answers in ("", f"elsewhere/{folder}/answers.json")
    assert recipe(RESNET).model.vqa_head.answers == "elsewhere/vqav2/answers.json"
    monkeypatch.delenv("DETECTRON2_DATASETS")
    assert recipe(RESNET).model.vqa_head.answers == "datasets/vqav2/answers.json"


def test_no_run_writes_over_another_one():
    folders = [recipe(path).train.output_dir for path in (*GLIPV2, *CLIP_VIL)]
    assert len(set(folders)) == len(folders)


@pytest.mark.parametrize("path", [RESNET, VIT])
def test_clip_vil_is_one_stream_on_the_last_map(path):
    """CLIP is trained by SGD, the transformer by AdamW, with the authors' rates and decays."""
    model = with_answers(recipe(path).model)
    model.language_backbone.pretrained = False
    with torch.device("meta"):
        model = instantiate(model)
    (level,) = model.backbone.output_shape().values()
    assert level.stride == 32 and level.channels == model.neck.channels
    assert len(model.neck.layers) == 12
    assert len(model.language_backbone.body.encoder.layer) == 0
    params = recipe(path).optimizer.params.copy()
    params.base_lr, params.weight_decay = recipe(path).optimizer.lr, 0.01
    params.model = model
    groups = instantiate(params)
    tower = {p for group in groups if group.get("sgd") for p in group["params"]}
    assert tower == set(model.backbone.parameters())
    assert {(g["lr"], g["weight_decay"]) for g in groups if g.get("sgd")} == {(1e-3, 4e-4)}
    others = {(g["lr"], g["weight_decay"]) for g in groups if not g.get("sgd")}
    assert others == {(5e-5, 0.01), (5e-5, 0.0)}


PATCH16 = "backbone.name=vit_base_patch16_clip_quickgelu_224 backbone.out_features=[res4]"


@pytest.mark.parametrize(
    ("path", "overrides"),
    [
        (RESNET, "backbone.name=resnet50_clip neck.channels=2048"),
        (RESNET, "backbone.name=resnet101_clip neck.channels=2048"),
        (VIT, f"{PATCH16} anchor_generator.strides=[16]"),
    ],
)
def test_other_towers_of_the_paper_as_the_models_say(path, overrides):
    model = apply_overrides(get_config(path), [f"model.{item}" for item in overrides.split()]).model
    with torch.device("meta"):
        (level,) = instantiate(model.backbone).output_shape().values()
    assert level.channels == model.neck.channels
    assert [level.stride] == model.anchor_generator.strides


@pytest.mark.parametrize("path", CLIP_VIL)
def test_sizes_of_images_of_clip_vil(path):
    config = recipe(path)
    sizes = (448, 448) if "caption" in path else (384, 640)
    assert (config.inference.min_size, config.inference.max_size) == sizes
    resize = config.dataloader.train.mapper.augmentations[0]
    assert (tuple(resize.short_edge_length), resize.max_size) == (sizes[:1], sizes[1])
    assert config.dataloader.train.total_batch_size == 256
    assert config.train.max_iter > 10_000


def tiny_of(path):
    """The recipe's model with its parts made small."""
    model = with_answers(recipe(path).model)
    if path in CLIP_VIL:
        if "vit" in path:
            model.backbone.name, model.neck.channels = "vit_medium_patch32_clip_224", 512
        else:
            model.backbone.name, model.neck.channels = "resnet50_clip", 2048
        model.language_backbone.update(model=tiny_bert_folder(), pretrained=False)
        model.neck.text_channels = 32
        return model
    clip_text = model.language_backbone.name == "ClipLanguageBackbone"
    tiny = clip_config() if clip_text else tiny_config()
    head = GLIPV2[path][1]
    tiny._target_, tiny[head] = model._target_, model[head]
    return tiny


def batch(head):
    """A text of the head's task without boxes, one with boxes, and a list of names."""
    text, kind = "what is red near the kite?", "question"
    if head == "caption_head":
        text, kind = "a red kite near the tree", "caption"
    plain, grounded, detection = (tiny_input(seed=seed) for seed in range(3))
    del plain["instances"]
    plain["prompt"] = Prompt.from_caption(text, [], kind=kind)
    spans = [[(text.index("kite"), text.index("kite") + 4)]]
    grounded["prompt"] = Prompt.from_caption(text, spans, kind=kind)
    grounded["instances"].gt_classes[:] = 0
    if kind == "question":
        plain["answers"], grounded["answers"] = {"yes": 1.0, "no": 0.3}, {"2": 0.6}
    return [plain, grounded, detection]


def test_the_tasks_of_clip_vil_have_one_model():
    first = OmegaConf.to_container(recipe("vqa/clip_vil_vqa.py").model)
    for path in ("vqa/clip_vil_gqa.py", "vqa/clip_vil_snli_ve.py"):
        model = OmegaConf.to_container(recipe(path).model)
        assert model["vqa_head"].pop("answers") != first["vqa_head"]["answers"]
        assert model == {**first, "vqa_head": model["vqa_head"]}


# The others are these but for their sizes (H), data (grounded) or answers (GQA, SNLI-VE).
@pytest.mark.parametrize(
    "path",
    [
        "vqa/glipv2_t_vqa.py", "vqa/glipv2_b_vqa.py",
        "captioning/glipv2_t_caption.py", "captioning/glipv2_b_caption.py",
        "vqa/clip_vil_vqa.py", "vqa/clip_vil_vit_b32_vqa.py", "captioning/clip_vil_caption.py",
    ],
)  # fmt: skip
def test_a_training_step(path):
    torch.manual_seed(0)
    model = instantiate(tiny_of(path)).train()
    optimizer = recipe(path).optimizer.copy()
    optimizer.params.model = model
    optimizer = instantiate(optimizer)
    (head,) = model.task_heads
    losses = model(batch(head))
    assert losses.keys() == {
        "loss_token", "loss_box", "loss_centerness", f"loss_{head.removesuffix('_head')}"
    }  # fmt: skip
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())
    before = {name: value.clone() for name, value in model.named_parameters()}
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    optimizer.step()
    parts = {
        name.split(".")[0]
        for name, value in model.named_parameters()
        if not torch.equal(value, before[name])
    }
    assert parts == {"backbone", "language_backbone", "neck", "head", head}
