"""Where a model spends its time: stages by the names of its modules.

The model is not touched but for the `forward` of the modules in question, which is wrapped while
the measurement lasts.
"""

import functools
import re
from contextlib import contextmanager

from torch import nn

from .timing import Clock

# Stage -> names of its modules. A module inside another stage's is not counted there.
STAGES = {
    "Swin": r"backbone\.bottom_up",
    "FPN": r"backbone",
    "text": r"language_backbone",
    "fusion": r"neck\.blocks\.\d+\.fusion",
    "text layers": r"neck\.blocks\.\d+\.text_layer",
    "DyConv": r"neck\.blocks\.\d+\.dynamic_conv",
    "head": r"head",
}
MASKS = "masks"  # of a GLIPv2 with a mask head
POSTPROCESSING = "post-processing"
POSTPROCESSOR_METHODS = ("detect", "merge", "to_instances")
# Parts of "DyConv"; a part that is not called as a module of its own has no row.
OF_WHICH = {
    "offsets": r"neck\.blocks\.\d+\.dynamic_conv\.offset",
    "mid": r"neck\.blocks\.\d+\.dynamic_conv\.conv_mid",
    "low": r"neck\.blocks\.\d+\.dynamic_conv\.conv_low",
    "high": r"neck\.blocks\.\d+\.dynamic_conv\.conv_high",
}


class StageTimer:
    """Times the stages of a GLIP, or of something whose parts have the same names."""

    def __init__(self, model: nn.Module, clock: Clock):
        self.model = model
        self.clock = clock
        self._spans: list[list] = []  # stage, start, end, index of the enclosing span
        self._open: list[int] = []

    @contextmanager
    def attached(self):
        """While this context lasts the stages of every call are recorded."""
        wrapped = []
        for name, module in self.model.named_modules(remove_duplicate=False):
            for stage, pattern in {**STAGES, **OF_WHICH}.items():
                if re.fullmatch(pattern, name):
                    wrapped.append((module, "forward", stage))
        postprocessor = self.model.postprocessor
        wrapped += [(postprocessor, method, POSTPROCESSING) for method in POSTPROCESSOR_METHODS]
        if getattr(self.model, "mask_head", None) is not None:
            wrapped.append((self.model.mask_head, "refine", MASKS))
        for owner, attribute, stage in wrapped:
            setattr(owner, attribute, self._recording(getattr(owner, attribute), stage))
        try:
            yield self
        finally:
            for owner, attribute, _ in wrapped:
                delattr(owner, attribute)

    def _recording(self, function, stage: str):
        @functools.wraps(function)
        def call(*args, **kwargs):
            span = [stage, self.clock.now(), None, self._open[-1] if self._open else None]
            self._open.append(len(self._spans))
            self._spans.append(span)
            try:
                return function(*args, **kwargs)
            finally:
                span[2] = self.clock.now()
                self._open.pop()

        return call

    def measure(self, call) -> dict[str, float]:
        """Seconds of one `call` by stage, without what nested stages took, and "whole"."""
        self._spans.clear()
        with self.attached():
            whole = self.clock.time(call)
        seconds: dict[str, float] = {}
        for stage, start, end, parent in self._spans:
            spent = self.clock.seconds(start, end)
            seconds[stage] = seconds.get(stage, 0.0) + spent
            # What is a part *of* a stage stays in it: "DyConv" is all of the dynamic convolution.
            if parent is not None and stage not in OF_WHICH:
                seconds[self._spans[parent][0]] -= spent
        return {**seconds, "whole": whole}
