"""PhraseCut test: the region of a phrase; without a mask head its boxes, filled.

Choose the threshold with `dataloader.test.dataset=phrasecut_val`.
"""

from ..common.eval import evaluation, model, one

evaluation.score_threshold = 0.5
dataloader = one("phrasecut_test", score_threshold="${evaluation.score_threshold}")
