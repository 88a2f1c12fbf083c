"""ODinW-13, validation and test split of each data set, and the table of the papers.

`glip odinw` does the same and can be interrupted.
"""

from detectron2.config import LazyCall as L

from glipv2_d2.data.datasets.odinw import odinw_names
from glipv2_d2.evaluation.odinw import odinw_report

from ..common.eval import evaluation, model, several

evaluation.caption_knowledge = False
dataloader = several(
    [*odinw_names(13, "select"), *odinw_names(13, "test")],
    mapper=dict(caption_knowledge="${evaluation.caption_knowledge}"),
)
dataloader.summary = L(odinw_report)(suite=13)
