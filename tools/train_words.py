#!/usr/bin/env python
"""Train what reads questions on images that are encoded once (docs/vl_understanding.md).

    python -m tools.train_words --config-file configs/demo/scenes_glipv2_vl.py --weights W \\
        --dataset scenes_train_vqa_grounding --output words.pth [--epochs 8] [key=value ...]

The image is made not to look at the question. Then what the question reads of it is the same for
all questions and all epochs, if all that makes it is frozen: it is computed once and kept (some
hundred kilobytes an image), and a step is that of the words alone. Questions come to be some 25
times as many a second. Trained are the text's side of the fusion, the text layers and the VQA head,
by the loss of the VQA head alone, which spoils them for all other texts. So, with --hold WEIGHTS,
the words of lists of names and of captions are drawn to those that these weights give, and so is
what the image asks of them. `glip train` goes on from the file, with boxes and with images that
look at their questions.

Numbers are printed for --test: accuracy by the type of the question.
"""

import argparse
import math
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from detectron2.config import instantiate
from detectron2.data import MetadataCatalog
from omegaconf import DictConfig, OmegaConf
from torch import nn

from glipv2_d2.checkpoint import GLIPCheckpointer, build_for_weights, read_checkpoint
from glipv2_d2.checkpoint.merging import is_position
from glipv2_d2.checkpoint.names import plain_names
from glipv2_d2.cli.convert import check_target, write_weights
from glipv2_d2.config import apply_overrides, get_config
from glipv2_d2.data.loading import load_records
from glipv2_d2.errors import ConfigError, DataError, command
from glipv2_d2.language import Prompt
from glipv2_d2.modeling.devices import resolve_device
from glipv2_d2.modeling.fusion import VLTower
from glipv2_d2.modeling.fusion.vl_tower import places_of
from glipv2_d2.modeling.text.attention import visible_words

# Of the neck's blocks: what reads the image, and what reads the words.
WORD_MODULES = (
    "text_layer", "fusion.positions", "fusion.norm_l", "fusion.attention.v_proj",
    "fusion.attention.l_proj", "fusion.attention.values_v_proj", "fusion.attention.out_l_proj",
)  # fmt: skip

HELD_IMAGES = 10  # of a step


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, help="LazyConfig of the model")
    parser.add_argument("--weights", required=True, help="that it starts from")
    parser.add_argument("--dataset", required=True, help="questions, with or without boxes")
    parser.add_argument("--test", help="questions that are answered after each epoch")
    parser.add_argument(
        "--output", required=True, type=Path, help="a new .pth file, for train.init_checkpoint"
    )
    parser.add_argument(
        "--hold", nargs=3, metavar=("WEIGHTS", "NAMES", "CAPTIONS"),
        help="weights, and data sets of names and of captions, whose words stay theirs",
    )  # fmt: skip
    parser.add_argument("--epochs", type=int, default=8, help="default: 8")
    parser.add_argument("--lr", type=float, default=1e-3, help="at its peak; default: 1e-3")
    parser.add_argument("--batch", type=int, default=32, help="images a step; default: 32")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...; default: auto")
    parser.add_argument("overrides", nargs="*", help="key=value of the config")
    args = parser.parse_args(argv)
    if args.epochs < 1 or args.batch < 1 or not args.lr > 0:
        parser.error("--epochs and --batch must be at least 1, --lr above 0")
    return args


class Question(NamedTuple):
    """A question: its words before fusion (T, L), its answers with scores, its type."""

    words: torch.Tensor
    answers: dict[str, float]
    type: str


class Encoded(NamedTuple):
    """An image that does not look at its text: its file, its side in each block (blocks, N, C), the
    places of the N cells, and what is asked about it."""

    file_name: str
    sides: torch.Tensor
    places: torch.Tensor
    questions: list[Question]


@torch.no_grad()
def encode(model: Any, mapper: Any, dataset: str) -> list[Encoded]:
    """All images of a data set with their questions.

    Raises:
        DataError: a record is no question with answers.
    """
    asked: dict[str, list[dict]] = defaultdict(list)
    for record in load_records(dataset):
        if record.get("task") != "question" or not record.get("answers"):
            raise DataError(f"data set {dataset!r} is not one of questions with answers")
        asked[record["file_name"]].append(record)
    encoded = []
    for file_name, records in asked.items():
        texts = [Prompt.from_caption(x["caption"], [], kind="question") for x in records]
        tokens = model.tokenizer(texts).to(model.device)
        words = model.language_backbone(tokens).hidden
        questions = [
            Question(w[real].half(), x["answers"], x.get("question_type", ""))
            for w, real, x in zip(words, tokens.mask, records)
        ]
        images = model.preprocess_image([mapper(records[0])])
        features = model.visual_features(images)
        sides = torch.stack([side[0] for side in model.neck.image_sides(features)])
        encoded.append(Encoded(file_name, sides.half(), places_of(features), questions))
    return encoded


def batches(images: Sequence[Encoded], size: int, order: random.Random) -> Iterator[list[Encoded]]:
    """Images of one size with equally many questions, so that nothing is padded but words."""
    alike: dict[tuple[int, int], list[Encoded]] = defaultdict(list)
    for image in images:
        alike[image.sides.shape[1], len(image.questions)].append(image)
    parts: list[list[Encoded]] = []
    for group in alike.values():
        order.shuffle(group)
        parts += [group[i : i + size] for i in range(0, len(group), size)]
    order.shuffle(parts)
    yield from parts


def questions_of(images: Sequence[Encoded]) -> list[Question]:
    """Those of all images, one image after another."""
    return [question for image in images for question in image.questions]


def fused_questions(model: Any, images: Sequence[Encoded]) -> tuple[torch.Tensor, torch.Tensor]:
    """The fused words (Q, T, L) of `questions_of` some images, and their padding mask (Q, T)."""
    asked = [question.words.float() for question in questions_of(images)]
    words = nn.utils.rnn.pad_sequence(asked, batch_first=True).to(model.device)
    lengths = torch.tensor([len(text) for text in asked])
    mask = (torch.arange(words.shape[1]) < lengths[:, None]).to(model.device)
    with torch.autocast(model.device.type, torch.bfloat16):
        return read(model.neck, images, words, visible_words(mask)).words[-1], mask


class Read(NamedTuple):
    """Of each block what the image asks of the words (B, C, heads * T), and its words (B, T, L)."""

    asked: list[torch.Tensor]
    words: list[torch.Tensor]


def read(
    neck: VLTower, images: Sequence[Encoded], words: torch.Tensor, visible: torch.Tensor
) -> Read:
    """The way of words through the tower; as many texts of each image.

    `visible`: see `visible_words`.
    """
    sides = torch.stack([image.sides.float() for image in images], dim=1).to(words.device)
    places = images[0].places if neck.positions else None
    blocks: Any = neck.blocks
    found = Read([], [])
    for block, side in zip(blocks, sides):
        found.asked.append(block.fusion.attention.folded_keys(block.fusion.norm_l(words))[0])
        words = block.fusion.read_image(block.fusion.located(side, places), words)
        words = block.text_layer(words, visible)
        found.words.append(words)
    return found


class Held:
    """Other texts than questions, whose words are to stay what some weights make of them.

    Args:
        neck: with these weights; it is frozen.
        names: of classes. captions: data set of captions of the images.
    """

    def __init__(self, neck: VLTower, names: Sequence[str], captions: str, seed: int):
        self._neck = neck.requires_grad_(False)
        self._names = list(names)
        self._random = random.Random(seed)
        self._captions: dict[str, list[str]] = defaultdict(list)
        for record in load_records(captions):
            self._captions[record["file_name"]].append(record["caption"])

    def loss(self, model: Any, images: Sequence[Encoded]) -> torch.Tensor:
        """Squared distance of words, which are of unit variance, and that of what images ask of
        them, in units of its variance; the former four times."""
        images = [image for image in images if self._captions[image.file_name]]
        images = self._random.sample(images, min(HELD_IMAGES, len(images)))
        if not images:
            return torch.zeros((), device=model.device)
        prompts = []
        for image in images:
            count = min(self._random.randint(6, 20), len(self._names))
            caption = self._random.choice(self._captions[image.file_name])
            prompts.append(Prompt.from_classes(self._random.sample(self._names, count)))
            prompts.append(Prompt.from_caption(caption, [], kind="caption"))
        tokens = model.tokenizer(prompts).to(model.device)
        visible, real = visible_words(tokens.mask, tokens.causal), tokens.mask
        with torch.autocast(model.device.type, torch.bfloat16):
            with torch.no_grad():
                words = model.language_backbone(tokens).hidden
                before = read(self._neck, images, words, visible)
            now = read(model.neck, images, words, visible)
        loss = torch.zeros((), device=model.device)
        for ours, theirs in zip(now.words, before.words):
            loss = loss + 4 * (ours - theirs).float().square()[real].mean()
        for ours, theirs in zip(now.asked, before.asked):
            change, size = (
                x.float().unflatten(2, (-1, real.shape[1])).permute(0, 3, 1, 2)[real]
                for x in (ours - theirs, theirs)
            )
            loss = loss + change.square().mean() / size.var()
        return loss


@torch.no_grad()
def accuracy(model: Any, images: Sequence[Encoded], batch: int) -> dict[str, float]:
    """Percent of the questions whose best answer has score 1, by type and of all."""
    right: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for part in batches(images, batch, random.Random(0)):
        given = model.vqa_head.answer(*fused_questions(model, part))
        for question, [(answer, _), *_] in zip(questions_of(part), given):
            for kind in (question.type, "all"):
                right[kind] += question.answers.get(answer, 0.0) >= 1
                count[kind] += 1
    return {kind: 100 * right[kind] / count[kind] for kind in sorted(count)}


def train_words(
    model: Any,
    images: Sequence[Encoded],
    held: Held | None = None,
    *,
    epochs: int,
    lr: float,
    batch: int,
    seed: int,
) -> Iterator[float]:
    """Train, and yield the mean loss of the questions of each epoch."""
    model.requires_grad_(False)
    parts: list[nn.Module] = [model.vqa_head]
    for block in model.neck.blocks:
        modules = dict(block.named_modules())
        parts += [modules[name] for name in WORD_MODULES if name in modules]
    trained = [p for part in parts for p in part.parameters()]
    trained += [block.fusion.gamma_l for block in model.neck.blocks]
    for parameter in trained:
        parameter.requires_grad_(True)
    order = random.Random(seed)
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.02, fused=True)
    total, step = epochs * len(list(batches(images, batch, random.Random(0)))), 0
    for _ in range(epochs):
        losses = []
        for part in batches(images, batch, order):
            # From a twentieth of the steps on half a cosine, down to a fiftieth.
            rate = 0.51 + 0.49 * math.cos(math.pi * step / total)
            for group in optimizer.param_groups:
                group["lr"] = lr * rate * min(1.0, (step + 1) / max(1, total // 20))
            answers = [question.answers for question in questions_of(part)]
            loss = model.vqa_head(*fused_questions(model, part), answers)
            whole = loss if held is None else loss + held.loss(model, part)
            optimizer.zero_grad()
            whole.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            losses.append(loss.item())
            step += 1
        yield sum(losses) / len(losses)


def _build(config: DictConfig, weights: str) -> Any:
    model: Any = build_for_weights(config, weights)
    if not isinstance(model.neck, VLTower) or getattr(model, "vqa_head", None) is None:
        raise ConfigError("the words are trained of a model with a VLTower and a vqa_head")
    # Not `load_weights`: what is new in the model, as positions are, may be missing.
    GLIPCheckpointer(model).load(weights, checkpointables=[])
    return model.eval()


def _build_held(config: DictConfig, weights: str) -> Any:
    names = plain_names(read_checkpoint(weights)["model"])
    if not any(map(is_position, names)):
        config = OmegaConf.merge(config, {"neck": {"positions": False}})
    return _build(config, weights)


@command
def main(argv: list[str] | None = None) -> int:
    """Encode, train, save; returns the exit status."""
    args = parse_args(argv)
    check_target(args.output, False, Path(args.weights))
    torch.manual_seed(args.seed)
    device = resolve_device(args.device)
    cfg = apply_overrides(get_config(args.config_file), args.overrides)
    model = _build(cfg.model, args.weights).to(device)
    held = None
    if args.hold:
        weights, names, captions = args.hold
        load_records(names)  # or an error that names what there is
        neck = _build_held(cfg.model, weights).neck.to(device)
        held = Held(neck, MetadataCatalog.get(names).thing_classes, captions, args.seed)
    mapper = instantiate(cfg.dataloader.test.mapper)
    images = encode(model, mapper, args.dataset)
    tested = encode(model, mapper, args.test) if args.test else []
    training = train_words(
        model, images, held, epochs=args.epochs, lr=args.lr, batch=args.batch, seed=args.seed
    )
    start = time.perf_counter()
    for epoch, loss in enumerate(training, start=1):
        told = ", ".join(f"{k} {v:.1f}" for k, v in accuracy(model, tested, args.batch).items())
        took = time.perf_counter() - start
        print(f"epoch {epoch} of {args.epochs}, {took:.0f} s: loss {loss:.3f} {told}", flush=True)
    notes = {"config": args.config_file, "command": "tools.train_words", "seed": str(args.seed)}
    write_weights(model.state_dict(), args.output, notes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
