"""A module as a program of `torch.export` that holds for every size.

`torch.export` traces with symbolic sizes. What makes the graphs hold for every size, and tracing
take seconds and not hours, is kept here:

* Images that are padded to multiples of the backbone's stride first: every size behind that is then
  a short expression, where PyTorch's solver would otherwise carry "rounded up to a multiple of 4,
  halved, rounded up to whole windows, ..." through each of two thousand nodes.
* No decision on whether a size is 1 (`backed_size_oblivious`), and an example in general position:
  more than one window, more than one position on the coarsest level.
* The conditions that the tracer writes down while it looks for the layout in memory of
  intermediate results ("more than one image", ...) are taken out of the program: nothing that it
  computes depends on them.
"""

import inspect
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.fx.experimental._config as fx_config
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.utils._sympy.value_ranges import ValueRanges

from ..errors import ExportError

__all__ = ["evaluation", "export_program", "tracing"]


def export_program(
    path: nn.Module, example: tuple[torch.Tensor, ...], dynamic: Sequence[Sequence[int]]
) -> ExportedProgram:
    """Trace a module, which is left as it was.

    Args:
        path: in whatever mode; its forward may end with any number of tensors (`*levels`).
        example: its inputs, in general position.
        dynamic: per input the dimensions whose size is free; more of them than inputs are no
            matter.

    Raises:
        ExportError: this PyTorch is too old.
    """
    needed = ((fx_config, "backed_size_oblivious"), (torch.compiler, "is_exporting"))
    if not all(hasattr(*place) for place in needed):
        raise ExportError(
            f"exporting needs a newer PyTorch than {torch.__version__} (tried with 2.15): "
            "pip install --upgrade torch torchvision"
        )
    shapes: list[Any] = [dict.fromkeys(dims, Dim.DYNAMIC) for dims, _ in zip(dynamic, example)]
    kinds = [p.kind for p in inspect.signature(path.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:  # those are one entry
        named = len(kinds) - 1
        shapes = [*shapes[:named], tuple(shapes[named:])]
    with evaluation(path), tracing():
        program = torch.export.export(path, example, dynamic_shapes=tuple(shapes), strict=False)
    _drop_conditions(program)
    _drop_idle_nodes(program)
    return program


@contextmanager
def evaluation(path: nn.Module):
    """Evaluation mode, and each module as it was afterwards."""
    training = {module: module.training for module in path.modules()}
    path.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


@contextmanager
def tracing():
    """PyTorch's settings under which it traces with symbolic sizes here."""
    settings: Any = fx_config  # PyTorch makes an object with `patch` of the module
    # It keeps symbolic shapes for a second use, which costs a third of the time here.
    cache = torch._dynamo.config.patch(fake_tensor_cache_enabled=False)
    with torch.no_grad(), settings.patch(backed_size_oblivious=True), cache:
        yield


def _drop_conditions(program: ExportedProgram) -> None:
    """Take out what the tracer demands of the inputs' free sizes: all hold from 1 on."""
    if hasattr(program, "_guards_code"):  # older versions keep none
        program._guards_code = []
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    for name in program.graph_signature.user_inputs:
        for size in nodes[name].meta["val"].shape:
            if isinstance(size, torch.SymInt):
                upper = program.range_constraints[size.node.expr].upper
                program.range_constraints[size.node.expr] = ValueRanges(1, upper)


def _drop_idle_nodes(program: ExportedProgram) -> None:
    """Remove nodes that hand on their input: a third of the graph.

    Conversions to the type that a tensor has, with the check that follows each; dropout; blocks
    (see modeling/blocks.py) of which there is only one.
    """
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        if node.target is torch.ops.aten._assert_tensor_metadata.default:
            graph.erase_node(node)
        elif (source := _source_if_idle(node)) is not None:
            node.replace_all_uses_with(source)
            program.graph_signature.replace_all_uses(node.name, source.name)  # of an output
            graph.erase_node(node)
    graph.eliminate_dead_code()
    graph.lint()
    program.graph_module.recompile()


def _source_if_idle(node: torch.fx.Node) -> torch.fx.Node | None:
    """The node whose value this one hands on unchanged, if it does."""
    aten = torch.ops.aten
    if node.op != "call_function":
        return None
    source: Any = node.args[0] if node.args else None
    if node.target is aten.to.dtype:
        return source if source.meta["val"].dtype == node.meta["val"].dtype else None
    if node.target is aten.dropout.default:
        return None if node.args[2] else source  # args[2]: in training
    if node.target is aten.cat.default:
        return source[0] if len(source) == 1 else None
    if getattr(node.target, "__name__", "") == "getitem":
        if source.target is aten.split.Tensor and len(source.meta["val"]) == 1:
            return source.args[0]
    return None
