"""Which parts of a model are trained: all others are frozen, whatever the meta-architecture."""

from collections.abc import Iterator, Sequence

from detectron2.engine import HookBase
from torch import nn

from ..checkpoint.names import is_within
from ..errors import ConfigError

__all__ = ["FrozenParts", "freeze_all_but", "parameter_table"]


def freeze_all_but(model: nn.Module, parts: Sequence[str]) -> list[nn.Module]:
    """Freeze all parameters of a model but those of the named parts (`train.trained_parts`).

    Call it before the optimizer, the moving average and DistributedDataParallel are built: all
    three leave out what requires no gradient. What the model itself has frozen within a named part
    (`frozen_stages`, for instance) stays so.

    Args:
        model: any model, not wrapped.
        parts: attribute paths of modules or parameters: `["mask_head"]`, `["backbone.fpn"]`.

    Returns:
        The frozen modules, without those inside of them, for `FrozenParts`. A module that holds a
        named part is not among them.

    Raises:
        ConfigError: no list of names, or the model has nothing to train of some of these names.
    """
    if isinstance(parts, str) or not isinstance(parts, Sequence) or not parts:
        raise ConfigError(
            'train.trained_parts is a list of parts, ["mask_head"] for instance, or null for all '
            f"of them; got {parts!r}"
        )
    named = [(n, p) for n, p in model.named_parameters(remove_duplicate=False) if p.requires_grad]
    _require_known(parts, [name for name, _ in named])
    trained = {p for name, p in named if any(is_within(name, part) for part in parts)}
    for parameter in model.parameters():
        if parameter not in trained:
            parameter.requires_grad_(False)
    return list(_frozen_modules(model, parts))


def _require_known(parts: Sequence[str], trainable: list[str]) -> None:
    unknown = [part for part in parts if not any(is_within(name, part) for name in trainable)]
    if not unknown:
        return
    shown: dict[str, None] = {}  # an ordered set
    for part in unknown:
        holder = part.rpartition(".")[0]
        while holder and not any(is_within(name, holder) for name in trainable):
            holder = holder.rpartition(".")[0]
        depth = len(holder.split(".")) + 1 if holder else 1
        below = [name for name in trainable if not holder or is_within(name, holder)]
        shown.update(dict.fromkeys(".".join(name.split(".")[:depth]) for name in below))
    raise ConfigError(
        f"train.trained_parts names {', '.join(map(repr, unknown))}, of which the model has "
        f"nothing to train; it has: {', '.join(shown)}"
    )


def _frozen_modules(
    module: nn.Module, parts: Sequence[str], prefix: str = ""
) -> Iterator[nn.Module]:
    for name, child in module.named_children():
        path = prefix + name
        if any(is_within(path, part) for part in parts):
            continue
        if any(is_within(part, path) for part in parts):
            yield from _frozen_modules(child, parts, f"{path}.")
        else:
            yield child


def parameter_table(model: nn.Module) -> str:
    """How many parameters of a model and of each of its parts are trained, as lines of text."""
    rows = [("all", list(model.parameters()))]
    rows += [(name, list(part.parameters())) for name, part in model.named_children()]
    lines = ["parameters".ljust(24) + "total".rjust(15) + "trained".rjust(15)]
    for name, parameters in rows:
        total = sum(p.numel() for p in parameters)
        trained = sum(p.numel() for p in parameters if p.requires_grad)
        if total:
            lines.append(f"{name:24s}{total:15,}{trained:15,}")
    return "\n".join(lines)


class FrozenParts(HookBase):
    """Keeps frozen modules in evaluation mode: no dropout, no new statistics of BatchNorm.

    Whatever calls `model.train()` puts all of a model into training mode: the trainer at its start,
    and Detectron2's `inference_context` after each evaluation. A hook of the trainer mends that
    before each step, and leaves the model's class and methods as they are; a model that is used
    elsewhere later behaves as any other.

    Args:
        modules: what `freeze_all_but` returns.
    """

    def __init__(self, modules: Sequence[nn.Module]):
        self.modules = modules

    def before_step(self) -> None:
        for module in self.modules:
            if module.training:  # else `eval` would clear caches in vain
                module.eval()
