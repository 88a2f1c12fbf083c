"""CUDA graphs: the kernels of a module, recorded once for each shape and launched as one."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .blocks import is_watched
from .text.cache import precision_and_device

__all__ = ["CudaGraphs"]

# Kernels are recorded from one thread at a time, and what a graph reads and writes is shared by all
# who play it back. Outside the class: a model can be copied and pickled.
_LOCK = threading.Lock()


class _Recorded:
    """One graph with the memory that it reads from and writes to."""

    def __init__(self, function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor], pool):
        self._inputs = [x.clone() for x in inputs]
        self._graph = torch.cuda.CUDAGraph()
        dtype, _ = precision_and_device(inputs[0].device)
        # Weights that autocast has rounded would be kept for others, in memory of the graph.
        precision = torch.autocast(
            "cuda", dtype=dtype, enabled=dtype is not None, cache_enabled=False
        )
        with precision:
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):  # libraries make their workspaces in the first call
                function(*self._inputs)
            torch.cuda.current_stream().wait_stream(aside)
            # Other threads, a data loader's that pins memory, may use the device meanwhile.
            with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
                self._outputs = list(function(*self._inputs))

    def play(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        for mine, given in zip(self._inputs, inputs):
            mine.copy_(given)
        self._graph.replay()
        return [x.clone() for x in self._outputs]


class CudaGraphs:
    """Least-recently-used graphs of functions of tensors, at inference.

    A model of 3,000 small kernels is bound by their launches at small batches. A shape is recorded
    when it comes for the second time, so that images of many sizes do not each pay for it. What is
    recorded reads the parameters where they are: training steps and loaded weights count, and
    parameters that have moved are recorded anew.

    Args:
        capacity: graphs kept; 0: none, everything is launched kernel by kernel. Each keeps its
            inputs and outputs; what is between them shares one piece of memory.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self._seen: OrderedDict[Hashable, _Recorded | None] = OrderedDict()
        self._pool: Any = None

    def __len__(self) -> int:
        return sum(graph is not None for graph in self._seen.values())

    def __deepcopy__(self, memo) -> "CudaGraphs":
        return CudaGraphs(self.capacity)

    def __reduce__(self):
        return CudaGraphs, (self.capacity,)

    def usable(self, module: nn.Module, device: torch.device) -> bool:
        """Whether calls of a module there may be played back: not where a gradient is recorded, the
        call is traced, or a hook or a wrapper waits for it."""
        return (
            self.capacity > 0
            and device.type == "cuda"
            and not torch.is_grad_enabled()
            and not (torch.compiler.is_compiling() or torch.jit.is_tracing())
            and not torch.cuda.is_current_stream_capturing()
            and not is_watched(module)
        )

    def run(
        self, module: nn.Module, function: Callable[..., Sequence[Tensor]], *inputs: Tensor
    ) -> list[Tensor]:
        """What `function`, which calls `module`, makes of the inputs, in the caller's own memory.

        Args:
            function: its outputs depend on the inputs and on the module alone, and it neither waits
                for the device nor copies from the host.
        """
        if not self.usable(module, inputs[0].device):
            return list(function(*inputs))
        key = (
            id(module),
            tuple((x.shape, x.stride(), x.dtype) for x in inputs),
            precision_and_device(inputs[0].device),
            torch.is_inference_mode_enabled(),
            tuple(p.data_ptr() for p in module.parameters()),
        )
        with _LOCK:
            if key not in self._seen:
                self._keep(key, None)
                return list(function(*inputs))
            graph = self._seen[key]
            if graph is None:
                self._pool = self._pool or torch.cuda.graph_pool_handle()
                graph = _Recorded(function, inputs, self._pool)
            self._keep(key, graph)
            return graph.play(inputs)

    def _keep(self, key: Hashable, graph: _Recorded | None) -> None:
        self._seen[key] = graph
        self._seen.move_to_end(key)
        if len(self) > self.capacity:
            oldest = next(k for k, kept in self._seen.items() if kept is not None)
            del self._seen[oldest]
        while len(self._seen) > 16 * self.capacity:
            self._seen.popitem(last=False)
