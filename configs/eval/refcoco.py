"""RefCOCO, RefCOCO+, RefCOCOg: precision at 1, 5 and 10 on every public split.

`evaluation.generalized_iou=True`: the overlap as MDETR's script has it.
"""

from ..common.eval import evaluation, model, several

evaluation.generalized_iou = False
dataloader = several(
    [f"{data}_{split}" for data in ("refcoco", "refcoco+") for split in ("val", "testA", "testB")]
    + ["refcocog_val", "refcocog_test"],
    generalized_iou="${evaluation.generalized_iou}",
)
