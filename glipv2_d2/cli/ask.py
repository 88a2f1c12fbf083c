"""`glip ask`: answer a question about images, and find what it speaks of."""

import argparse
import os
import re

from ..engine.predictor import GroundingPredictor
from ..engine.results import Answer
from ..errors import UsageError
from ..language.prompt_text import read_question
from .detection.command import Task, read_given, run_task, stoppable, text_predictor, typed
from .detection.images import Ask, Found, tell_field


@stoppable
def run(args: argparse.Namespace) -> int:
    """Ask and write."""
    question = typed(args.question)
    if os.path.exists(question):  # unlike Path.exists, it takes a text of any length
        raise UsageError(f"the question comes last, and '{question}' is a file or folder")
    if re.fullmatch(r"[\w.]+=\S*", question):
        raise UsageError(f"the question comes last, and '{question}' is a value for the config")
    if not args.given:
        raise UsageError(f"no image is given, only the question {question!r}, which comes last")
    given = read_given(args, "answers")
    read_question(question, args.phrases)  # refuses now, not once the model is there
    predictor = text_predictor(args, given.overrides)
    head = {"question": question, "threshold": predictor.phrase_threshold}
    task = Task(
        name="answers",
        ask=answering(predictor, question),
        settings={**head, "phrases": args.phrases},
        head=head,
        batch_size=predictor.batch_size,
        tell=tell_field("answer"),
    )
    return run_task(task, given, args, args.json)


def answering(predictor: GroundingPredictor, question: str) -> Ask:
    """Answers a question about images."""
    return lambda images: [_found(answer) for answer in predictor.answer(images, question)]


def _found(answer: Answer) -> Found:
    best = [[text, round(probability, 4)] for text, probability in answer.answers]
    return Found(answer.instances, {"answer": answer.answer, "answers": best}, [answer.words])
