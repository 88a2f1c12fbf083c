"""The Java programs of COCO's caption evaluation: the Penn Treebank tokenizer, METEOR, SPICE.

They come with the package pycocoevalcap (the extra `captions`) and need `java`.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError
from .caption_metrics import Words

__all__ = ["has_java", "java_metrics", "tokenize_captions"]

TOKENIZER = "Stanford PTBTokenizer 3.4.1"
_METRICS = {"METEOR": ("meteor.meteor", "Meteor"), "SPICE": ("spice.spice", "Spice")}


def has_java() -> bool:
    """Whether pycocoevalcap is installed and there is a `java` to run its programs."""
    return importlib.util.find_spec("pycocoevalcap") is not None and bool(shutil.which("java"))


def tokenize_captions(captions: Sequence[str]) -> list[list[str]]:
    """Split captions into lower-case words without punctuation, by Stanford's tokenizer.

    Raises:
        UserError: the program fails.
    """
    module = importlib.import_module("pycocoevalcap.tokenizer.ptbtokenizer")
    jar = Path(module.__file__ or "").with_name(module.STANFORD_CORENLP_3_4_1_JAR)
    tokenizer = "edu.stanford.nlp.process.PTBTokenizer"
    command = ["java", "-Dfile.encoding=UTF-8", "-cp", str(jar), tokenizer]
    # A line of its own for each; pycocoevalcap's class loses an empty one at the end.
    text = "".join(" ".join(caption.split()) + "\n" for caption in captions)
    done = subprocess.run(
        [*command, "-preserveLines", "-lowerCase"], input=text.encode("utf-8"), capture_output=True
    )
    lines = done.stdout.decode("utf-8", errors="replace").split("\n")
    if done.returncode or len(lines) < len(captions):
        reason = done.stderr.decode("utf-8", errors="replace").strip()[-300:]
        raise UserError(
            f"the Java tokenizer of pycocoevalcap failed: {reason}. Repair the Java installation, "
            "or give the evaluator java=False"
        )
    removed = set(module.PUNCTUATIONS)
    return [
        [word for word in line.split() if word not in removed] for line in lines[: len(captions)]
    ]


def java_metrics(
    candidates: Sequence[Words], references: Sequence[Sequence[Words]]
) -> dict[str, float]:
    """Compute METEOR and SPICE, 0 to 1; one whose program fails is left out with a warning.

    SPICE fails on many machines: it fetches models at its first use, and needs Java 8.
    """
    results = {i: [" ".join(words)] for i, words in enumerate(candidates)}
    truth = {i: [" ".join(words) for words in known] for i, known in enumerate(references)}
    scores = {}
    for name, (module, scorer) in _METRICS.items():
        try:
            metric = getattr(importlib.import_module(f"pycocoevalcap.{module}"), scorer)()
            scores[name] = float(metric.compute_score(truth, results)[0])
        except Exception as error:  # a program of others: the other metrics are sound without it
            log = logging.getLogger(__name__)
            log.warning("%s is left out, as its Java program failed: %r", name, error)
    return scores
