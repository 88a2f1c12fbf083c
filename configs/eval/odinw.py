"""One data set of ODinW, its validation and its test split: `evaluation.dataset=odinw_pothole`.

`tools/odinw_sweep.py` evaluates a suite with it. `evaluation.caption_knowledge=True`: the words
that the 35-set's configs write around some names; `evaluation.select=minival` where there is one.
"""

from ..common.eval import evaluation, evaluator, loader, model

evaluation.dataset = "odinw_Aquarium"
evaluation.select = "val"
evaluation.caption_knowledge = False
_names = dict(val="${evaluation.dataset}_${evaluation.select}", test="${evaluation.dataset}_test")
_knowledge = "${evaluation.caption_knowledge}"
dataloader = dict(
    test={s: loader(name, caption_knowledge=_knowledge) for s, name in _names.items()},
    evaluator={s: evaluator(name, f"inference/{s}") for s, name in _names.items()},
)
