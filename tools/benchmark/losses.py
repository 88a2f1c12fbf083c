"""What the losses of GLIPv2's pre-training add to a step, in turns in one process."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from glipv2_d2.errors import ConfigError
from glipv2_d2.language import Prompt

from .settings import Settings, build_model
from .training import measure_step, step_values
from .workload import prompt_names, train_inputs

ADDED = ("contrast", "mlm_head")
CASES = {
    "GLIP's": (),
    "+ contrast": ("contrast",),
    "+ masked words": ("mlm_head",),
    "+ both": ADDED,
}


def measure_losses(settings: Settings, batch: int, precisions: Sequence[str]) -> list[dict]:
    """A row per set of losses and precision: seconds and GiB of forward and backward.

    Raises:
        ConfigError: the model has not both losses.
    """
    model = build_model(settings).train()
    if absent := [part for part in ADDED if getattr(model, part, None) is None]:
        raise ConfigError(
            f"{settings.config} has no {' and no '.join(absent)}: measure the losses of GLIPv2 "
            "with --config-file pretrain/glipv2_t.py or demo/scenes_glipv2.py"
        )
    inputs = train_inputs(settings, Prompt.from_classes(prompt_names("coco")), batch)
    for parameter in model.parameters():  # gradients are there from the first step on
        parameter.grad = parameter.new_zeros(parameter.shape) if parameter.requires_grad else None
    runs: dict[tuple, list] = {(case, p): [] for p in precisions for case in CASES}
    for number in range(settings.repeats + 1):
        for (case, precision), measured in runs.items():
            with only(model, CASES[case]):
                result = _step(model, inputs, settings, precision)
            if number:  # the first round warms up
                measured.append(result)
    about = {"batch": batch, "size": list(settings.size)}
    return [
        {"losses": case, "precision": precision, **step_values(measured), **about}
        for (case, precision), measured in runs.items()
    ]


@contextmanager
def only(model: nn.Module, parts: Sequence[str]) -> Iterator[None]:
    """The model with these of its additional losses while the context lasts."""
    removed = {part: getattr(model, part) for part in ADDED if part not in parts}
    for part in removed:
        setattr(model, part, None)
    try:
        yield
    finally:
        for part, module in removed.items():
            setattr(model, part, module)


def _step(model: nn.Module, inputs: list[dict], settings: Settings, precision: str) -> tuple:
    """What `measure_step` measures; the optimizer is left out."""

    def step() -> None:
        with settings.autocast(precision):
            losses = model(inputs)
        sum(losses.values()).backward()

    model.zero_grad(set_to_none=False)
    return measure_step(step, settings.device)
