"""A small real model: every part of GLIP, random weights, a fraction of a second per call."""

import functools
import shutil
import tempfile
from pathlib import Path

import torch
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, instantiate
from detectron2.structures import BitMasks, Boxes, Instances
from transformers import BertConfig

from glipv2_d2.config import resolve_config
from glipv2_d2.language import Prompt
from glipv2_d2.language.pretrained_names import resolve_pretrained
from glipv2_d2.modeling import GLIPv2
from glipv2_d2.modeling.fusion import DyHead
from glipv2_d2.modeling.heads import CaptionHead, VqaHead

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "special_tokens_map.json",
)


@functools.lru_cache(maxsize=1)
def tiny_bert_folder() -> str:
    """A folder as `save_pretrained` leaves it, without weights: 2 layers, 32 wide."""
    folder = Path(tempfile.mkdtemp(prefix="tiny_bert_"))
    for name in TOKENIZER_FILES:
        shutil.copy(Path(resolve_pretrained("minilm")) / name, folder)
    BertConfig(
        vocab_size=30522,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    ).save_pretrained(folder)
    return str(folder)


def tiny_config():
    """LazyConfig of the tiny model: `pretrain/glip_t.py`'s model with everything made small."""
    model = LazyConfig.load(resolve_config("common/models/glip_swin_t.py")).model
    bottom_up = model.backbone.bottom_up
    bottom_up.embed_dim = 16
    bottom_up.depths = (1, 1, 2, 1)
    bottom_up.num_heads = (1, 2, 2, 4)
    bottom_up.window_size = 4
    bottom_up.drop_path_rate = 0.0
    model.backbone.out_channels = 32
    model.backbone.drop_block = 0.0
    model.language_backbone.model = tiny_bert_folder()
    model.language_backbone.pretrained = False
    model.neck.num_blocks = 2
    model.neck.text_channels = 32
    model.neck.fusion_heads = 2
    model.neck.fusion_head_channels = 32
    model.neck.text_heads = 2
    model.neck.text_ffn_channels = 64
    model.neck.offset_rule = "resized"
    model.neck.dropout = 0.0
    model.neck.use_checkpoint = False
    return model


def tiny_glipv2_config():
    """The tiny GLIP with the parts that the shipped GLIPv2 configs add."""
    parts = LazyConfig.load(resolve_config("common/models/glipv2_swin_t.py")).model
    model = tiny_config()
    for key in ("_target_", "contrast", "mlm_head"):
        model[key] = parts[key]
    return model


def tiny_masks_config(**options):
    """The tiny GLIP with the mask head of the shipped configs; `options`: of the model."""
    model = tiny_config()
    model._target_ = GLIPv2
    model.mask_head = LazyConfig.load(resolve_config("mask/glipv2_t_mask.py")).model.mask_head
    model.mask_head.hourglass.channels = 16
    for key, value in options.items():
        model[key] = value
    return model


def tiny_tasks_config(answers=("red", "blue", "2"), **options):
    """The tiny GLIPv2 with every head but that of masked words, which draws; `options`: of the
    model."""
    model = tiny_masks_config(contrast=tiny_glipv2_config().contrast)
    model.contrast.max_positives = model.contrast.max_regions = 100_000  # all: none are drawn
    channels = "${..neck.text_channels}"
    model.vqa_head = L(VqaHead)(text_channels=channels, answers=list(answers))
    model.caption_head = L(CaptionHead)(text_channels=channels, vocabulary_size=30522)
    for key, value in options.items():
        model[key] = value
    return model


def tiny_masks_model(seed: int = 0, **options):
    """The model of `tiny_masks_config`, made to find something: class scores around a half."""
    torch.manual_seed(seed)
    model = instantiate(tiny_masks_config(**options))
    torch.nn.init.zeros_(model.head.bias0)
    return model


def tiny_model(seed: int = 0, **overrides):
    """The tiny model, seeded, without dropout. `overrides`: dotted keys of its config."""
    config = tiny_config()
    LazyConfig.apply_overrides(config, [f"{key}={value}" for key, value in overrides.items()])
    torch.manual_seed(seed)
    model = instantiate(config)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def tiny_unfused_model(seed: int = 0):
    """The tiny model without deep fusion, as GLIP-T (A)."""
    config = tiny_config()
    config.neck = L(DyHead)(
        num_blocks=2, channels="${..backbone.out_channels}", offset_rule="resized"
    )
    config.head.text_channels = 32
    torch.manual_seed(seed)
    return instantiate(config)


def lively(model):
    """Scores all over (0, 1), distinct boxes: without it an untrained GLIP detects nothing."""
    generator = torch.Generator().manual_seed(1)
    head = model.head
    with torch.no_grad():
        for parameter, spread in (
            (head.bbox_pred.weight, 0.02),
            (head.centerness.weight, 0.02),
            (head.text_projection.weight, 0.3),
            (head.bias_lang, 0.5),
        ):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
        head.bias0.zero_()
        # Offsets and masks are zero in a new model: let them matter.
        for block in model.neck.blocks:
            weight = block.dynamic_conv.offset.weight
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.05)
    return model


def tiny_masks_input(**options):
    """`tiny_input` with masks: the upper half of each box."""
    made = tiny_input(**options)
    instances = made["instances"]
    masks = torch.zeros(len(instances), *instances.image_size, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, instances.gt_boxes.tensor.long().tolist()):
        mask[y0 : (y0 + y1) // 2, x0:x1] = True
    instances.gt_masks = BitMasks(masks)
    return made


def tiny_question(prompt, height: int = 64, width: int = 96, seed: int = 0, **fields):
    """An input as it is in evaluation; a prompt of None is left out."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    inputs = {"image": image, "height": height, "width": width, "prompt": prompt, **fields}
    return {key: value for key, value in inputs.items() if value is not None}


@torch.no_grad()
def detect(model, *inputs):
    """The Instances of each input."""
    return [output["instances"] for output in model(list(inputs))]


def tiny_input(
    height: int = 64,
    width: int = 96,
    names=("cat", "dog", "red kite"),
    boxes=((8, 8, 40, 40), (30, 10, 80, 60)),
    classes=(0, 2),
    seed: int = 0,
):
    """One training input; without `boxes` an image with nothing on it."""
    generator = torch.Generator().manual_seed(seed)
    instances = Instances((height, width))
    instances.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.gt_classes = torch.tensor(classes, dtype=torch.long)
    return {
        "image": torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8),
        "height": height,
        "width": width,
        "file_name": f"image_{seed}.png",
        "image_id": seed,
        "prompt": Prompt.from_classes(list(names)),
        "instances": instances,
    }
