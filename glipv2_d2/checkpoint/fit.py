"""Do these weights fit this model? One answer, in one wording, before anything is loaded.

Stock Detectron2 logs what did not fit and goes on, so that a wrong `--weights` shows as an AP
of zero. Here it is an error that says what differs.
"""

import logging
from collections.abc import Collection, Iterable, Mapping

import torch
from torch import nn

from ..errors import CheckpointError
from ..language.prompt import TASKS
from ..modeling.heads.vqa import OTHER_ANSWERS
from ..modeling.text.prompt_embeddings import offsets_in

__all__ = ["check_fit", "check_weights", "excused_keys", "published_config"]

logger = logging.getLogger(__name__)

# Constants of the config, not weights; older files lack them or carry them.
_CONSTANTS = ("pixel_mean", "pixel_std", "vqa_head.answers_digest")

# (width of the patch embedding, blocks of the tower, with deep fusion) -> shipped config. GLIP-T
# (B) and (C) have the model of GLIP-T.
_PUBLISHED = {
    (96, 6, True): "pretrain/glip_t.py",
    (96, 6, False): "pretrain/glip_t_a.py",
    (192, 8, True): "pretrain/glip_l.py",
}
# The same of GLIPv2, whose tower always fuses -> its size.
_GLIPV2 = {(96, 6): "t", (128, 6): "b", (352, 8): "h"}
GLIPV2_PARTS = ("contrast", "mlm_head", "mask_head", "presence_head", *TASKS.values())


def check_weights(
    model: nn.Module, state: Mapping[str, torch.Tensor], *, source: str, strict: bool
) -> None:
    """Compare a state dict with a model, see `check_fit`; its `excused_keys` may be missing, and
    tuned prompts may be in one of the two alone."""
    own = {name: value for name, value in model.state_dict().items() if name not in _CONSTANTS}
    given = {name: value for name, value in state.items() if name not in _CONSTANTS}
    for name in offsets_in(model, given):
        if name not in own or name not in given:
            own.pop(name, None)
            given.pop(name, None)
    other = [k for k, value in own.items() if k in given and given[k].shape != value.shape]
    of_answers = all(name.startswith("vqa_head.classifier.") for name in other)
    remedy = OTHER_ANSWERS if other and of_answers else ""
    optional = excused_keys(model)
    check_fit(own, given, source=source, strict=strict, optional=optional, remedy=remedy)


def check_fit(
    own: Mapping[str, torch.Tensor],
    state: Mapping[str, torch.Tensor],
    *,
    source: str,
    strict: bool,
    optional: Collection[str] = (),
    remedy: str = "",
) -> None:
    """Compare two state dicts by name and shape.

    Args:
        own: the model's. state: what is to be loaded.
        source: where the weights come from, for the messages.
        strict: whether every weight of the model must be there, those of `optional` excepted, and
            no other. If not, what is missing is logged.
        remedy: what the user can do; empty: give another config, by name where one fits.

    Raises:
        CheckpointError: nothing fits, a shape differs, or (strict) a weight is missing or one too
            many. The message counts, gives examples and ends with the remedy.
    """
    common = [name for name in own if name in state]
    counts = (
        f"{len(common)} of the model's {len(own)} weights are in the file, which has {len(state)}"
    )
    other = [name for name in common if state[name].shape != own[name].shape]
    missing = [name for name in own if name not in state and name not in optional]
    surplus = [name for name in state if name not in own]
    if not common:
        fault = (
            f"holds weights of another model: {counts}; it has for example {_examples(state)}, the "
            f"model has {_examples(own)}"
        )
    elif other:
        shapes = (
            f"{name}: {tuple(state[name].shape)} in the file, {tuple(own[name].shape)} in the model"
            for name in other
        )
        fault = (
            f"holds weights of another size of model: {len(other)} of the {len(common)} common "
            f"weights differ in shape ({_examples(shapes, '; ')})"
        )
    elif missing and strict:
        fault = (
            f"does not hold all weights of this model: {counts}, {len(missing)} are missing, for "
            f"example {_examples(missing)}"
        )
        remedy = remedy or (
            f"{_config_hint(state)}, or a complete checkpoint (training may start from a part: "
            "train.init_checkpoint)"
        )
    elif surplus and strict:
        fault = (
            f"holds weights of a larger model: {counts}, {len(surplus)} of them have no place in "
            f"the model, for example {_examples(surplus)}"
        )
    else:
        if missing:
            logger.warning(
                "%s: %s; %d start from their initial values, for example %s",
                source, counts, len(missing), _examples(missing),
            )  # fmt: skip
        return
    raise CheckpointError(f"{source} {fault}; {remedy or _config_hint(state)}")


def excused_keys(model: nn.Module) -> set[str]:
    """Names that a file of weights may lack: those that the model got from elsewhere.

    That is a frozen language backbone which came with pretrained weights of its own
    (`model.language_backbone.pretrained` names them): released weights do not repeat them.
    """
    language = getattr(model, "language_backbone", None)
    if language is None or not getattr(language, "pretrained", None):
        return set()
    if any(parameter.requires_grad for parameter in language.parameters()):
        return set()
    return {f"language_backbone.{name}" for name in language.state_dict()}


def published_config(state: Mapping[str, torch.Tensor]) -> str | None:
    """The shipped config whose model weights under our names fit; None if they fit none.

    Told from the width of the backbone, the blocks of the tower and the parts, not from every
    shape.
    """
    patches = state.get("backbone.bottom_up.patch_embed.proj.weight")
    if patches is None:
        return None
    blocks = {name.split(".")[2] for name in state if name.startswith("neck.blocks.")}
    parts = {name.split(".", 1)[0] for name in state}.intersection(GLIPV2_PARTS)
    if parts:
        return _glipv2_config(_GLIPV2.get((len(patches), len(blocks))), parts)
    return _PUBLISHED.get((len(patches), len(blocks), "neck.blocks.0.fusion.gamma_v" in state))


def _glipv2_config(size: str | None, parts: set[str]) -> str | None:
    """The shipped config of this size of GLIPv2 that has exactly these parts."""
    before_masks = {"contrast", "mlm_head"} if size == "h" else {"contrast"}
    further = {"presence_head", *TASKS.values()}
    if size is None or "contrast" not in parts or parts & further:
        return None  # of heads for questions there is one for each list of answers
    if "mask_head" in parts:
        return f"mask/glipv2_{size}_mask.py" if parts - {"mask_head"} == before_masks else None
    if "mlm_head" in parts:
        return f"pretrain/glipv2_{size}.py"
    return None if size == "h" else f"pretrain/glipv2_{size}_stage2.py"


def _config_hint(state: Mapping[str, torch.Tensor]) -> str:
    config = published_config(state)
    if config:
        return f"they fit the config {config}: give that one"
    return "give the config that the weights were trained with"


def _examples(names: Iterable[str], separator: str = ", ") -> str:
    return separator.join(list(names)[:3])
