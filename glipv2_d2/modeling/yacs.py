"""The arguments of a GLIP from a yacs config: what Detectron2's own keys mean for it.

The model is that of the LazyConfig which MODEL.GLIP.CONFIG names, weights' own parts excepted.
Beside it count, of Detectron2's keys,

==============================================  ==================================================
DATASETS.TEST                                   the names that `pred_classes` index
DATASETS.TRAIN                                  the names that `gt_classes` of inputs without a
                                                prompt index
MODEL.{ROI_HEADS,RETINANET}.SCORE_THRESH_TEST   least score of a detection
MODEL.{ROI_HEADS,RETINANET}.NMS_THRESH_TEST     IoU of the NMS
MODEL.RETINANET.TOPK_CANDIDATES_TEST            candidates per level
TEST.DETECTIONS_PER_IMAGE                       most detections of an image
==============================================  ==================================================

the last four where they are set to another value than Detectron2's own default; at the default the
LazyConfig decides, so that an evaluation is GLIP's. A score below GLIP's own threshold, which is on
the class score before centerness, lowers that threshold, too. Every other key of MODEL that is
away from its default has no effect, and is named in a warning.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

from detectron2.config import CfgNode, get_cfg, instantiate
from omegaconf import DictConfig

from ..config import load_model_config
from ..errors import ConfigError
from ..language.prompt import names_direction
from .vocabulary import common_class_names, difference
from .weights import WEIGHTS_REGISTRY

__all__ = ["arguments_from"]

logger = logging.getLogger(__name__)

_SCORES = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "MODEL.RETINANET.SCORE_THRESH_TEST")
_POSTPROCESSING = {  # keys -> settings of the postprocessor
    ("MODEL.ROI_HEADS.NMS_THRESH_TEST", "MODEL.RETINANET.NMS_THRESH_TEST"): ["nms_threshold"],
    ("MODEL.RETINANET.TOPK_CANDIDATES_TEST",): ["topk_candidates"],
    ("TEST.DETECTIONS_PER_IMAGE",): ["detections_per_prompt", "detections_per_image"],
}
_NUM_CLASSES = ("MODEL.ROI_HEADS.NUM_CLASSES", "MODEL.RETINANET.NUM_CLASSES")
# Read above, or by Detectron2's own programs around the model.
_WITH_EFFECT = {
    *_SCORES,
    *chain(*_POSTPROCESSING),
    "MODEL.DEVICE",
    "MODEL.GLIP.CONFIG",
    "MODEL.META_ARCHITECTURE",
    "MODEL.WEIGHTS",
    # demo.py sets it for every model; it is about panoptic segmentation.
    "MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH",
}


def arguments_from(cfg: CfgNode) -> dict[str, Any]:
    """What `GLIP` or `GLIPv2` is constructed with; see the module's text.

    Raises:
        ConfigError: there is no such LazyConfig; data sets have different classes; INPUT.FORMAT is
            not the model's; two keys say different things.
    """
    model = load_model_config(cfg.MODEL.GLIP.CONFIG)
    if os.path.isfile(cfg.MODEL.WEIGHTS):
        model = WEIGHTS_REGISTRY.get("config_for_weights")(model, cfg.MODEL.WEIGHTS)
    _apply_test_keys(model, cfg)
    arguments = {str(key): instantiate(x) for key, x in model.items() if key != "_target_"}
    arguments["vocabulary"] = _vocabulary(arguments.get("vocabulary"), cfg)
    arguments.setdefault("training_datasets", cfg.DATASETS.TRAIN)
    _check_images(arguments, cfg)
    _warn_of_keys_without_effect(arguments, cfg)
    return arguments


def _apply_test_keys(model: DictConfig, cfg: CfgNode) -> None:
    score = _changed(_SCORES, cfg)
    if score is not None:
        model.min_score = score
        model.postprocessor.score_threshold = min(model.postprocessor.score_threshold, score)
    for keys, settings in _POSTPROCESSING.items():
        value = _changed(keys, cfg)
        if value is not None:
            model.postprocessor.update(dict.fromkeys(settings, value))


def _changed(keys: Sequence[str], cfg: CfgNode) -> Any:
    """The value of those of the `keys` that are away from their default; None: none is."""
    values = {key: attrgetter(key)(cfg) for key in keys}
    values = {key: x for key, x in values.items() if x != attrgetter(key)(get_cfg())}
    if len(set(values.values())) > 1:
        said = " and ".join(f"{key} is {value}" for key, value in values.items())
        raise ConfigError(f"{said}: a GLIP has one such setting, so give both the same value")
    return next(iter(values.values()), None)


def _vocabulary(own: Sequence[str] | None, cfg: CfgNode) -> Sequence[str] | None:
    names = common_class_names(cfg.DATASETS.TEST)
    if own is None or names is None or list(own) == names:
        return names if own is None else own
    raise ConfigError(
        f"the vocabulary of {cfg.MODEL.GLIP.CONFIG} and the classes of DATASETS.TEST "
        f"{cfg.DATASETS.TEST[0]!r} differ ({difference(own, names)}): detections would be counted "
        "for another class; set model.vocabulary to None, or name a data set of the same classes"
    )


def _check_images(arguments: dict[str, Any], cfg: CfgNode) -> None:
    wanted = arguments.get("input_format", "BGR")
    if cfg.INPUT.FORMAT != wanted:
        raise ConfigError(
            f"INPUT.FORMAT is {cfg.INPUT.FORMAT!r}, but the model of {cfg.MODEL.GLIP.CONFIG} takes "
            f"{wanted!r} images: set INPUT.FORMAT to {wanted!r}"
        )
    names = common_class_names(cfg.DATASETS.TRAIN, read=False) or ()
    directed = [name for name in names if names_direction(name)]
    if directed and cfg.INPUT.RANDOM_FLIP == "horizontal":
        logger.warning(
            "INPUT.RANDOM_FLIP 'horizontal' mirrors images of the classes %s, which are not what "
            "they are called then: set it to 'none', or train with GroundingDatasetMapper",
            ", ".join(map(repr, directed)),
        )


def _warn_of_keys_without_effect(arguments: dict[str, Any], cfg: CfgNode) -> None:
    known = set(_WITH_EFFECT)
    if arguments.get("mask_head") is not None:
        known.add("MODEL.MASK_ON")
    for key in _NUM_CLASSES:  # no setting of a GLIP, but true where it counts the vocabulary
        if arguments["vocabulary"] and attrgetter(key)(cfg) == len(arguments["vocabulary"]):
            known.add(key)
    ignored = [key for key in _away_from_default(cfg.MODEL, get_cfg().MODEL) if key not in known]
    if ignored:
        logger.warning(
            "%s: set in the yacs config and without effect on a %s, which is described by %s",
            ", ".join(ignored), cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.GLIP.CONFIG,
        )  # fmt: skip
    if cfg.TEST.AUG.ENABLED:
        logger.warning(
            "TEST.AUG.ENABLED: Detectron2's GeneralizedRCNNWithTTA takes R-CNNs only; let "
            "test_with_TTA of your trainer build glipv2_d2.modeling.GLIPWithTTA(cfg, model) instead"
        )


def _away_from_default(node: CfgNode, default: CfgNode, prefix: str = "MODEL") -> Iterator[str]:
    for key, value in node.items():
        if key not in default:
            continue  # another project's key
        if isinstance(value, CfgNode):
            yield from _away_from_default(value, default[key], f"{prefix}.{key}")
        elif _plain(value) != _plain(default[key]):
            yield f"{prefix}.{key}"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
