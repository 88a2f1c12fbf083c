#!/usr/bin/env python
"""The answer list of a VQA head: what people answered often enough.

    python datasets/prepare_vqa_answers.py --output datasets/vqav2/answers.json \
        datasets/vqav2/v2_mscoco_train2014_annotations.json \
        datasets/vqav2/v2_mscoco_val2014_annotations.json

The files are annotations of VQAv2 or question files of GQA. An answer is in the list if it is the
(most frequent) answer of enough questions, those of most questions first. VQAv2's usual list of
3,129 answers is made so, in another order; its published json works as well.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from glipv2_d2.data.datasets.coco_like import load_json
from glipv2_d2.errors import DataError, command, well_formed
from glipv2_d2.files import whole_file
from glipv2_d2.language.answers import normalize_answer, soft_scores


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="json with answers")
    parser.add_argument("--output", type=Path, required=True, help="the json that is written")
    parser.add_argument(
        "--questions",
        type=int,
        default=9,
        help="so many must have an answer (default: %(default)s)",
    )
    return parser.parse_args(argv)


@command
def main(argv: list[str] | None = None) -> int:
    """Write the list; returns the exit status."""
    args = parse_args(argv)
    questions = []
    for path in args.files:
        with well_formed(str(path)):
            questions += answers_of(path)
    counts = Counter(answer for answer, _ in questions)
    answers = sorted(
        (answer for answer, count in counts.items() if count >= args.questions),
        key=lambda answer: (-counts[answer], answer),
    )
    if len(answers) < 2:
        raise DataError(
            f"{len(answers)} answers have {args.questions} questions: there is nothing to choose "
            "from. Is --questions right?"
        )
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(args.output, "w") as file:
        json.dump(answers, file, indent=0)
    known = set(answers)
    best = [max((s for a, s in scores.items() if a in known), default=0) for _, scores in questions]
    covered = sum(score > 0 for score in best)
    print(
        f"{args.output}: {len(answers)} answers; {covered} of {len(questions)} questions "
        f"({covered / len(questions):.2%}) have one of them, which bounds the accuracy to "
        f"{sum(best) / len(best):.2%}"
    )
    return 0


def answers_of(path: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Of each question the answer that counts for the list, and the scores of all its answers."""
    content = load_json(str(path), "file of answers")
    if "annotations" in content:  # VQAv2
        for entry in content["annotations"]:
            scores = soft_scores([human["answer"] for human in entry["answers"]])
            yield normalize_answer(entry["multiple_choice_answer"]), scores
    else:  # GQA
        for entry in content.values():
            yield entry["answer"], {entry["answer"]: 1.0}


if __name__ == "__main__":
    sys.exit(main())
