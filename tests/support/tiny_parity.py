"""A parity case and a training case as the official code would write them, of the tiny model."""

import json

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from glipv2_d2.checkpoint import convert_official_glip
from glipv2_d2.language import Prompt, TokenizedPrompts
from glipv2_d2.language.positive_map import ClassMap
from glipv2_d2.modeling.boxes import to_continuous
from glipv2_d2.modeling.losses import centerness_of
from glipv2_d2.modeling.meta_arch.inference import EncodedImages
from tests.support.tiny import tiny_input, tiny_model
from tools.parity.capture import Capture
from tools.parity.generated_weights import Entry, is_generated, manifest
from tools.parity.official_names import OfficialGradients

SIZES = ((70, 96), (96, 61))
NAMES = ["cat", "dog", "red kite"]
CAPTION = "a dog and a cat near a red kite on the very green grass"
PHRASES = ["a cat", "the very green grass"]
BOXES = ([[8, 8, 40, 40], [30, 10, 80, 60]], [[2, 30, 50, 90], [5, 5, 30, 30], [0, 40, 60, 95]])
BOX_PHRASES = (["cat", "red kite"], ["a cat", "a dog", "the very green grass"])
WIDTH = 256  # of the stored tokens
STRIDES = {"swin.c2": 31, "fuse0.ln_v": 7, "block0.fuse.lang": 5}


def marked(caption, phrases):
    starts = [caption.index(phrase) for phrase in phrases]
    return Prompt.from_caption(caption, [[(s, s + len(p))] for s, p in zip(starts, phrases)])


PROMPTS = (Prompt.from_classes(NAMES), marked(CAPTION, PHRASES))


def pictures():
    inputs = [tiny_input(*size, seed=i) for i, size in enumerate(SIZES)]
    return [x["image"] for x in inputs]


def write_pictures(folder):
    for i, picture in enumerate(pictures()):
        rgb = picture.permute(1, 2, 0).numpy()[..., ::-1]
        Image.fromarray(np.ascontiguousarray(rgb)).save(folder / f"case_t_{i}.png")


def model():
    """The tiny model with weights that make detections and deltas of some size."""
    model = tiny_model()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "head" in name and parameter.dim() > 1:
                parameter.mul_(30.0)
        model.head.bias0.fill_(-2.0)
    return model


def run(model, images, tokens):
    with torch.no_grad(), Capture(model) as capture:
        features = model.visual_features(images)
        output = model.ground(features, model.language_backbone(tokens))
    return capture.tensors(), features, output


def write_case(model, folder):
    """`case_t.npz` of a batch of two: class names, and a caption with phrases."""
    model.eval()
    images = model.preprocess_image([{"image": picture} for picture in pictures()])
    tokens = model.tokenizer(PROMPTS)
    count = tokens.mask.shape[1]
    ids = F.pad(tokens.input_ids, (0, WIDTH - count))
    mask = F.pad(tokens.mask, (0, WIDTH - count))
    arrays, features, output = run(model, images, tokens)
    padded, _, _ = run(model, images, TokenizedPrompts(ids, mask, []))
    arrays = {name: tensor.numpy() for name, tensor in arrays.items()}
    arrays |= {
        "input": images.tensor.numpy(),
        "image_sizes": np.array(images.image_sizes),
        "input_ids": ids.numpy(),
        "attention_mask": mask.long().numpy(),
        "cls_logits.p3": np.zeros((2, 80, 1, 1), np.float32),
        "pad255.bert.hidden": padded["bert.hidden"][:, -1].numpy(),
        "pad255.dot_product_logits.p3": padded["dot_product_logits.p3"][..., -1].numpy(),
    }
    levels = zip(model.backbone.output_shape(), model.anchors(features))
    arrays |= {f"anchors.{p}": a.numpy() for p, a in levels}
    arrays |= detections(model, features, output, tokens)
    meta = {
        "case": "t",
        "images": ["case_t_0.png", "case_t_1.png"],
        "captions": [prompt.caption for prompt in PROMPTS],
        "prompts": [["det", NAMES], ["phrase", CAPTION, PHRASES]],
        "sampled": sample(arrays),
    }
    save_case(folder / "case_t.npz", arrays, meta)
    return folder / "case_t.npz"


def save_case(path, arrays, meta):
    np.savez(path, meta=np.array(json.dumps(meta)), **arrays)


def sample(arrays):
    """Store every n-th value of some tensors, in place; returns their notes."""
    notes = {}
    for name, stride in STRIDES.items():
        whole = arrays[name]
        notes[name] = {"shape": whole.shape, "stride": stride, "mean": float(whole.mean())}
        notes[name] |= {"std": float(whole.std()), "absmax": float(np.abs(whole).max())}
        arrays[name] = whole.reshape(-1)[::stride]
    return notes


def detections(model, features, output, tokens):
    arrays = {}
    with torch.no_grad():
        found = model.detect(EncodedImages(features, SIZES), [[p] for p in PROMPTS])
    for i, (detected, prompt) in enumerate(zip(found, PROMPTS)):
        class_map = ClassMap.build(prompt, tokens.positive_maps[i])
        above = class_map.scores(output.logits[i]) > model.postprocessor.score_threshold
        candidates = [int(level.sum()) for level in above.split(output.level_lengths())]
        weights = class_map.phrase_weights
        pairs = tokens.positive_maps[i].nonzero() + torch.tensor([1, 0])
        arrays |= {
            f"pm{i}.pairs": pairs.numpy(),
            f"pm{i}.matrix": F.pad(weights, (0, WIDTH - weights.shape[1])).numpy(),
            f"det{i}.boxes": detected.boxes.numpy(),
            f"det{i}.scores": detected.scores.numpy(),
            f"det{i}.labels": detected.classes.numpy() + 1,
            f"det{i}.stable": np.ones(len(detected.scores), dtype=bool),
            f"det{i}_noplus1.boxes": detected.boxes.numpy(),
            f"det{i}.num_candidates": np.array(candidates),
        }
    return arrays


def official_manifest(model):
    """The entries that the official state dict of the tiny model would have."""
    entries = [entry for entry in manifest("glip_t") if is_generated(entry)]
    numbered = {e.name: torch.tensor(float(i)).expand(e.shape) for i, e in enumerate(entries)}
    own, found = model.state_dict(), []
    for ours, numbers in convert_official_glip(numbered).items():
        if ours in own:
            parts = numbers.reshape(len(numbers), -1)[:, 0].unique().int().tolist()
            shape = (own[ours].shape[0] // len(parts), *own[ours].shape[1:])
            found += [Entry(entries[i].name, shape, "float32") for i in parts]
    return found


def write_training(model, folder):
    """`train_t.json` beside the case: two and three boxes."""
    inputs = []
    prompts = [marked(prompt.caption, names) for prompt, names in zip(PROMPTS, BOX_PHRASES)]
    for picture, size, boxes, prompt in zip(pictures(), SIZES, BOXES, prompts):
        x = tiny_input(*size, boxes=boxes, classes=range(len(boxes)))
        x["instances"].gt_boxes.tensor = to_continuous(x["instances"].gt_boxes.tensor)
        inputs.append({**x, "image": picture, "prompt": prompt})
    model.train()
    model.zero_grad(set_to_none=True)
    losses = model(inputs)
    sum(losses.values()).backward()
    entries = official_manifest(model)
    gradient = OfficialGradients(model, entries)
    values = {
        "case": "t",
        "images": ["case_t_0.png", "case_t_1.png"],
        "targets_in": [
            {"boxes_xyxy": b, "phrases": n, "labels": [1] * len(b)}
            for b, n in zip(BOXES, BOX_PHRASES)
        ],
        "losses": {
            "loss_reg": losses["loss_box"].item(),
            "loss_centerness": losses["loss_centerness"].item(),
            "loss_dot_product_token": losses["loss_token"].item(),
            "loss_cls": 0.0,
        },
        "total": sum(losses.values()).item(),
        "total_grad_norm": gradient.total_norm(),
        "no_grad": ["rpn.head.cls_logits.weight"],
        "zero_grad": ["rpn.head.scales.4.scale"],
        "grads": {
            e.name: {
                "shape": e.shape,
                "norm": float(gradient(e.name).norm()),
                "sample_stride": 3,
                "sample": gradient(e.name)[::3][:6].tolist(),
            }
            for e in entries
            if any(part in e.name for part in ("self.key.weight", "scales.0", "patch_embed"))
        },
        "targets": {"images": targets(model, inputs)},
        "disabled": {"dropout": 2},
    }
    model.eval()
    (folder / "train_t.json").write_text(json.dumps(values))
    return folder / "train_t.json"


def targets(model, inputs):
    images = model.preprocess_image(inputs)
    with torch.no_grad():
        anchors = model.anchors(model.visual_features(images))
    tokens = model.tokenizer([x["prompt"] for x in inputs])
    result = []
    for positive_map, boxes in zip(tokens.positive_maps, BOXES):
        boxes = torch.tensor(boxes, dtype=torch.float32)
        matches = model.losses.matcher(anchors, boxes)
        index = (matches >= 0).nonzero().flatten()
        chosen, owner = torch.cat(anchors)[index], matches[index]
        result.append(
            {
                "num_anchors": len(matches),
                "positive_anchor_index": index.tolist(),
                "positive_tokens": [positive_map[k].nonzero().flatten().tolist() for k in owner],
                "reg_targets": model.losses.box_coder.encode(chosen, boxes[owner]).tolist(),
                "centerness_targets": centerness_of(chosen, boxes[owner]).tolist(),
            }
        )
    return result
