"""Parameter groups and gradient clipping as GLIP trains with them, and CLIP-ViL's optimizer."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.solver.build import reduce_param_groups
from omegaconf import DictConfig
from torch import nn

from ..checkpoint.names import is_within
from ..config import named_setting
from ..errors import ConfigError
from ..modeling.sharding import sharded_like, whole_tensor

__all__ = [
    "AdamWAndSGD",
    "GradientClipper",
    "build_optimizer",
    "get_glip_optimizer_params",
    "sharded_optimizer_state",
]

_NORM_TYPES = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
)


def build_optimizer(config: DictConfig) -> torch.optim.Optimizer:
    """The optimizer of a config, whose `params.model` is set.

    Raises:
        ConfigError: PyTorch cannot fuse it here (`fused=True`), or an argument is refused.
    """
    with named_setting("optimizer"):
        try:
            return instantiate(config)
        except RuntimeError as error:
            if not config.get("fused"):
                raise
            reason = str(error).strip().rstrip(".")
            raise ConfigError(
                f"optimizer.fused=True is not possible here: {reason}; set optimizer.fused=null"
            ) from error


def get_glip_optimizer_params(
    model: nn.Module | None = None,
    *,
    base_lr: float,
    weight_decay: float,
    lr_by_prefix: Mapping[str, float] | None = None,
    weight_decay_norm: float | None = None,
    weight_decay_bias: float | None = 0.0,
    bias_lr_factor: float = 1.0,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
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
        overrides: options of a part of the model that replace those above for every parameter of
            it, for example `{"backbone.bottom_up": {"lr": 1e-3, "sgd": True}}` (see `AdamWAndSGD`).
            The longest prefix that fits wins.

    Returns:
        Groups for a `torch.optim` optimizer, as few as possible.

    Raises:
        ValueError: nothing is left to train, or a prefix fits no parameter at all.
    """
    if model is None:
        raise ValueError("`optimizer.params.model` must be set before the optimizer is built")
    _check_prefixes(model, "lr_by_prefix", lr_by_prefix := lr_by_prefix or {})
    _check_prefixes(model, "overrides", overrides := overrides or {})
    decay_norm = weight_decay if weight_decay_norm is None else weight_decay_norm
    groups = []
    for module, name, parameter in _trainable(model):
        lr = _of_part(name, lr_by_prefix, base_lr)
        decay = decay_norm if isinstance(module, _NORM_TYPES) else weight_decay
        # The official test is `"bias" in name`, which takes Swin's relative_position_bias_table
        # and timm's q_bias/v_bias as well.
        if "bias" in name.rpartition(".")[2]:
            lr *= bias_lr_factor
            decay = decay if weight_decay_bias is None else weight_decay_bias
        options = {"lr": lr, "weight_decay": decay, **_of_part(name, overrides, {})}
        groups.append({"params": [parameter], **options})
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


def _of_part(name: str, by_prefix: Mapping[str, Any], default: Any) -> Any:
    fitting = [prefix for prefix in by_prefix if is_within(name, prefix)]
    return by_prefix[max(fitting, key=len)] if fitting else default


def _check_prefixes(model: nn.Module, argument: str, prefixes: Iterable[str]) -> None:
    names = [name for name, _ in model.named_parameters()]
    for prefix in prefixes:
        if not any(is_within(name, prefix) for name in names):
            tops = sorted({name.split(".", 1)[0] for name in names})
            raise ValueError(
                f"optimizer.params.{argument} names '{prefix}', but no parameter of the model "
                f"starts so; the model's parts are: {', '.join(tops)}"
            )


class AdamWAndSGD(torch.optim.Optimizer):
    """AdamW, and SGD for the parameter groups that have `sgd=True`, which step as one optimizer.

    CLIP-ViL trains its transformer with AdamW and CLIP's tower with SGD ("How Much Can CLIP Benefit
    Vision-and-Language Tasks?", Shen et al. 2022). The groups are shared with the two, so that
    schedules, gradient scalers and checkpoints see one optimizer.

    Args:
        params: parameter groups, of `get_glip_optimizer_params` with `overrides` for instance. One
            of the two may have none, as where `train.trained_parts` leaves out the tower.
        lr, weight_decay: of the groups that have none of their own.
        betas, eps: of AdamW. momentum: of SGD.

    Raises:
        ValueError: an argument is out of range; in `load_state_dict`: the state is of other groups.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        *,
        lr: float,
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        momentum: float = 0.0,
    ):
        groups = list(params)
        adamw, sgd = ([g for g in groups if _uses_sgd(g) == wanted] for wanted in (False, True))
        self._optimizers: list[torch.optim.Optimizer] = []
        if adamw:
            self._optimizers.append(
                torch.optim.AdamW(adamw, lr=lr, weight_decay=weight_decay, betas=betas, eps=eps)
            )
        if sgd:
            self._optimizers.append(
                torch.optim.SGD(sgd, lr=lr, weight_decay=weight_decay, momentum=momentum)
            )
        super().__init__(groups, {})
        self._share()

    def _share(self) -> None:
        for optimizer in self._optimizers:
            wanted = isinstance(optimizer, torch.optim.SGD)
            groups = [group for group in self.param_groups if _uses_sgd(group) == wanted]
            optimizer.__setstate__({"state": self.state, "param_groups": groups})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both; see `torch.optim.Optimizer`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self._optimizers:
            optimizer.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        if [*map(_uses_sgd, state_dict["param_groups"])] != [*map(_uses_sgd, self.param_groups)]:
            raise ValueError("the optimizer's state is of other groups for AdamW and SGD than here")
        super().load_state_dict(state_dict)
        self._share()


def _uses_sgd(group: Mapping[str, Any]) -> bool:
    return group.get("sgd", False)


def sharded_optimizer_state(
    state: dict[str, Any], optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """The whole state of an optimizer as one loads it whose parameters are cut."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def cut(index: int, of_parameter: Mapping[str, Any]) -> dict[str, Any]:
        own = parameters[index]
        return {
            key: sharded_like(value, own) if getattr(value, "shape", None) == own.shape else value
            for key, value in of_parameter.items()
        }

    return {**state, "state": {index: cut(index, kept) for index, kept in state["state"].items()}}


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
        norm = whole_tensor(norm)
        self.last_norm = float(norm)
        if self.on_nonfinite is not None and not torch.isfinite(norm):
            self.on_nonfinite(self.last_norm)
