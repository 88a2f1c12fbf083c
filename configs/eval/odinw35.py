"""ODinW-35 (ELEVATER), validation and test split of each data set.

With the caption knowledge of the official configs; `evaluation.caption_knowledge=False`: names.
"""

from detectron2.config import LazyCall as L

from glipv2_d2.data.datasets.odinw import odinw_names
from glipv2_d2.evaluation.odinw import odinw_report

from ..common.eval import evaluation, model, several

evaluation.caption_knowledge = True
dataloader = several(
    [*odinw_names(35, "select"), *odinw_names(35, "test")],
    mapper=dict(caption_knowledge="${evaluation.caption_knowledge}"),
)
dataloader.summary = L(odinw_report)(suite=35)
