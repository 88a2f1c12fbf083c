#!/usr/bin/env python
"""What the losses of GLIPv2 teach, measured on the "scenes" (docs/glipv2.md, vl_understanding.md).

    python -m tools.probe_glipv2 --config-file configs/demo/scenes_glipv2.py --weights W \\
        --task retrieval                      the phrase of a box among those of a whole batch
    python -m tools.probe_glipv2 ... --task masked-words
                                              colors and shapes from the image, or from another's
    python -m tools.probe_glipv2 ... --task questions
                                              answers from the image, from another's, from the words

retrieval runs with any GLIP, on scenes_val unless --dataset names another data set; its prompts
are drawn as in training, from a fixed seed. masked-words needs a model with mlm_head and reads the
captions of scenes_val_grounding. questions needs one with vqa_head, and asks those of
scenes_val_vqa_grounding or of --dataset. A table is printed; --output also writes the numbers as
json.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger
from tabulate import tabulate

from glipv2_d2.checkpoint import build_for_weights, load_weights
from glipv2_d2.config import get_config
from glipv2_d2.data import GroundingDatasetMapper
from glipv2_d2.data.loading import load_records
from glipv2_d2.errors import command
from glipv2_d2.modeling.devices import resolve_device
from glipv2_d2.scenes.answered_questions import answer_accuracy, wording_oracle
from glipv2_d2.scenes.masked_words import KINDS, masked_word_accuracy
from glipv2_d2.scenes.region_word_retrieval import phrase_retrieval

CAPTIONS, OBJECTS = "scenes_val_grounding", "scenes_val"
QUESTIONS, KNOWN_QUESTIONS = "scenes_val_vqa_grounding", "scenes_train_vqa_grounding"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, help="LazyConfig of the model")
    parser.add_argument("--weights", required=True, help="must hold all weights of the model")
    parser.add_argument("--task", required=True, choices=sorted(TASKS))
    parser.add_argument("--dataset", help="of retrieval and questions; default: see above")
    parser.add_argument("--batch", type=int, default=16, help="images together; default: 16")
    parser.add_argument("--limit", type=int, help="so many records only, the first ones")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...; default: auto")
    parser.add_argument("--output", type=Path, help="json file for the numbers")
    args = parser.parse_args(argv)
    if args.batch < 1 or (args.limit is not None and args.limit < 1):
        parser.error("--batch and --limit must be at least 1")
    return args


def retrieval(cfg, model, args) -> tuple[dict, str]:
    """The numbers of the task, and the table."""
    dataset = args.dataset or OBJECTS
    records = load_records(dataset)[: args.limit]
    mapper = cfg.dataloader.train.mapper
    mapper.augmentations, mapper.negative_captions = [_resize(cfg)], 0
    mapper = instantiate(mapper)
    seed_all_rng(0)
    batches = (
        [mapper(record) for record in records[start : start + args.batch]]
        for start in range(0, len(records), args.batch)
    )
    numbers = phrase_retrieval(model, batches)
    rows = [(name, numbers[name]) for name in ("before_fusion", "fused", "chance")
            if name in numbers]  # fmt: skip
    table = tabulate(rows, headers=("score", "top-1"), floatfmt=".3f")
    sizes = f"{numbers['boxes']} boxes, {numbers['phrases']:.0f} phrases in a batch of {args.batch}"
    return numbers, f"{dataset}: {sizes}\n{table}"


def masked_words(cfg, model, args) -> tuple[dict, str]:
    """The numbers of the task, and the table."""
    records = load_records(CAPTIONS)[: args.limit]
    numbers = masked_word_accuracy(model, records, _mapper(cfg, model), _objects(), args.batch)
    rows = [
        (image.replace("_", " "), kind, *numbers[image][kind].values())
        for image in numbers
        for kind in KINDS
    ]
    headers = ("image", "masked", "words", "top-1", "decided words", "top-1 of these")
    table = tabulate(rows, headers=headers, floatfmt=".3f")
    return numbers, f"{CAPTIONS}: {len(records)} captions\n{table}"


def questions(cfg, model, args) -> tuple[dict, str]:
    """The numbers of the task, and the table."""
    dataset = args.dataset or QUESTIONS
    records = load_records(dataset)[: args.limit]
    numbers = answer_accuracy(model, records, _mapper(cfg, model), args.batch)
    numbers["words_alone"] = wording_oracle(load_records(KNOWN_QUESTIONS), records)
    counts = Counter(record["question_type"] for record in records)
    counts["all"] = len(records)
    rows = [
        (kind, counts[kind], *(numbers[source][kind] for source in numbers))
        for kind in numbers["words_alone"]
    ]
    headers = ("kind", "questions", *(source.replace("_", " ") for source in numbers))
    return numbers, f"{dataset}\n{tabulate(rows, headers=headers, floatfmt='.3f')}"


TASKS = {"retrieval": retrieval, "masked-words": masked_words, "questions": questions}


def _mapper(cfg, model) -> GroundingDatasetMapper:
    """Gives the model's input for a record, as in a test."""
    return GroundingDatasetMapper(
        is_train=False,
        augmentations=[instantiate(_resize(cfg))],
        tokenizer=model.tokenizer,
        image_format=model.input_format,
    )


def _resize(cfg):
    """The test size of a config, as a call."""
    return L(T.ResizeShortestEdge)(
        short_edge_length=cfg.inference.min_size, max_size=cfg.inference.max_size
    )


def _objects() -> dict[str, set[tuple[str, str]]]:
    """(color, shape) of everything in each image of the detection set, by file name."""
    records = load_records(OBJECTS)
    names = MetadataCatalog.get(OBJECTS).thing_classes
    return {
        record["file_name"]: {tuple(names[a["category_id"]].split()) for a in record["annotations"]}
        for record in records
    }


@command
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    setup_logger(name="glipv2_d2")
    device = resolve_device(args.device)
    cfg = get_config(args.config_file)
    model = build_for_weights(cfg.model, args.weights)
    load_weights(model, args.weights)
    model = model.eval().to(device)
    numbers, table = TASKS[args.task](cfg, model, args)
    print(table)
    if args.output is not None:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        settings = {key: str(value) for key, value in vars(args).items() if key != "output"}
        content = {"settings": settings, "numbers": numbers}
        args.output.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
