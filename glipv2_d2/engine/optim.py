"""Parameter groups and gradient clipping as GLIP trains with them."""

from collections.abc import Callable, Iterator, Mapping

import torch
from detectron2.solver.build import reduce_param_groups
from torch import nn

from .freezing import is_within

__all__ = ["GradientClipper", "get_glip_optimizer_params"]

_NORM_TYPES = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
)


def get_glip_optimizer_params(
    model: nn.Module | None = None,
    *,
    base_lr: float,
    weight_decay: float,
    lr_by_prefix: Mapping[str, float] | None = None,
    weight_decay_norm: float | None = None,
    weight_decay_bias: float | None = 0.0,
    bias_lr_factor: float = 1.0,
) -> list[dict]:
    """Sort the trainable parameters into groups of one learning rate and weight decay each.

    Follows `maskrcnn_benchmark/solver/build.py` of the official GLIP, with module types in place of
    substrings for the norms. Detectron2's `get_default_optimizer_params` of v0.6 cannot give a
    sub-module its own learning rate.

    Args:
        model: frozen parameters (`requires_grad` False) are left out; one that two modules share
            appears once. A LazyConfig leaves the model out and the training fills it in.
        base_lr, weight_decay: of everything that the following arguments do not name.
        lr_by_prefix: learning rate of a part of the model, for example
            `{"language_backbone": 1e-5}`. The longest prefix that fits wins.
        weight_decay_norm: weight decay in normalization layers; None: as the rest (official).
        weight_decay_bias: weight decay of biases, those of norms included, and of position bias
            tables; None: as the rest.
        bias_lr_factor: factor on the learning rate of biases (official: 2).

    Returns:
        Groups for a `torch.optim` optimizer, as few as possible.

    Raises:
        ValueError: nothing is left to train, or a prefix fits no parameter at all.
    """
    if model is None:
        raise ValueError("`optimizer.params.model` must be set before the optimizer is built")
    _check_prefixes(model, prefixes := dict(lr_by_prefix or {}))
    decay_norm = weight_decay if weight_decay_norm is None else weight_decay_norm
    groups = []
    for module, name, parameter in _trainable(model):
        lr = _lr_of(name, prefixes, base_lr)
        decay = decay_norm if isinstance(module, _NORM_TYPES) else weight_decay
        # The official test is `"bias" in name`, which takes Swin's relative_position_bias_table
        # and timm's q_bias/v_bias as well.
        if "bias" in name.rpartition(".")[2]:
            lr *= bias_lr_factor
            decay = decay if weight_decay_bias is None else weight_decay_bias
        groups.append({"params": [parameter], "lr": lr, "weight_decay": decay})
    if not groups:
        raise ValueError("the model has no trainable parameter: everything is frozen")
    return reduce_param_groups(groups)


def _trainable(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    seen: set[nn.Parameter] = set()
    for module_name, module in model.named_modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                yield module, f"{module_name}.{leaf}" if module_name else leaf, parameter


def _lr_of(name: str, prefixes: Mapping[str, float], base_lr: float) -> float:
    fitting = [prefix for prefix in prefixes if is_within(name, prefix)]
    return prefixes[max(fitting, key=len)] if fitting else base_lr


def _check_prefixes(model: nn.Module, prefixes: Mapping[str, float]) -> None:
    names = [name for name, _ in model.named_parameters()]
    for prefix in prefixes:
        if not any(is_within(name, prefix) for name in names):
            tops = sorted({name.split(".", 1)[0] for name in names})
            raise ValueError(
                f"optimizer.params.lr_by_prefix names '{prefix}', but no parameter of the model "
                f"starts so; the model's parts are: {', '.join(tops)}"
            )


class GradientClipper:
    """Clips the gradient of the whole model to one norm just before every optimizer step.

    It sits in the optimizer's step, because that is where gradients are ready in any trainer: under
    fp16 the gradient scaler has divided its scale out by then, and has skipped the step if anything
    overflowed. A fused optimizer does both itself, in its step, so that it is the bound
    that is scaled here.

    Args:
        optimizer: the optimizer whose parameters are clipped together.
        max_norm: the largest norm that is let through; None or 0 only measures.
        on_nonfinite: called with the norm when it is NaN or infinite.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        max_norm: float | None,
        on_nonfinite: Callable[[float], None] | None = None,
    ):
        self.max_norm = float(max_norm) if max_norm else float("inf")
        self.on_nonfinite = on_nonfinite
        self.last_norm = float("nan")
        optimizer.register_step_pre_hook(self._before_step)

    def _before_step(self, optimizer: torch.optim.Optimizer, *_) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        scale = getattr(optimizer, "grad_scale", None)  # of a fused optimizer under a scaler
        scale = 1.0 if scale is None else float(scale)
        norm = nn.utils.clip_grad_norm_(parameters, self.max_norm * scale) / scale
        self.last_norm = float(norm)
        if self.on_nonfinite is not None and not torch.isfinite(norm):
            self.on_nonfinite(self.last_norm)
