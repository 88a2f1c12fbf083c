"""COCO test-dev: the zip files for COCO's server, whose truth is its own; no AP is computed here.

Boxes lie in `inference/bbox/`, masks in `inference/segm/` of the output folder, called
`detections_test-dev2017_<evaluation.algorithm>_results.zip`. `inference.tta=True`: several sizes
and mirrored images, for the starred numbers of the papers.
"""

from ..common.eval import evaluation, model, one

evaluation.algorithm = "glip"
dataloader = one(
    "coco_2017_test-dev",
    submission="detections_test-dev2017_${evaluation.algorithm}_results",
)
