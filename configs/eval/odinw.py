"""One data set of ODinW, its validation and its test split: `evaluation.dataset=odinw_pothole`.

`glip odinw` evaluates a suite with it. `evaluation.caption_knowledge=True`: the words
that the 35-set's configs write around some names; `evaluation.select=minival` where there is one.
Data sets of one's own: `evaluation.val=my_val evaluation.test=my_test`.
"""

from ..common.eval import evaluation, evaluator, loader, model

evaluation.dataset = "odinw_Aquarium"
evaluation.select = "val"
evaluation.val = "${evaluation.dataset}_${evaluation.select}"
evaluation.test = "${evaluation.dataset}_test"
evaluation.caption_knowledge = False


def _split(name, folder):
    return dict(
        test=loader(name, caption_knowledge="${evaluation.caption_knowledge}"),
        evaluator=evaluator(name, folder),
    )


dataloader = _split("${evaluation.val}", "inference/val")
dataloader["further_tests"] = dict(test=_split("${evaluation.test}", "inference/test"))
