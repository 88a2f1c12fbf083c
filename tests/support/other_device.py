"""A device that is not the CPU, on a machine that has none: for finding tensors left behind.

Its tensors hold CPU tensors and say that they are elsewhere. PyTorch's own CPU kernels compute on
what they hold, and an operation on tensors of both kinds fails as it does on a GPU. It is PyTorch's
slot for other vendors' devices ("PrivateUse1").
"""

from contextlib import contextmanager

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

__all__ = ["AVAILABLE", "OtherDevice", "other_device"]

NAME = "elsewhere"
# Of PyTorch 2.9 and newer; private, and no part of what this project itself uses.
_REGISTER = getattr(backend_registration, "_setup_privateuseone_for_python_backend", None)
AVAILABLE = _REGISTER is not None
_LIBRARY = None

# They may read from one device and write to another.
_COPIES = ("aten::copy_", "aten::_to_copy", "aten::_copy_from")
# Their indices may be on the CPU, but not the other way round.
_INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
_SCALARS = ("aten::_local_scalar_dense", "aten::item", "aten::equal")


class OtherDevice(torch.Tensor):
    """A tensor on the device."""

    @staticmethod
    def __new__(cls, held: torch.Tensor):
        return torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(),
            dtype=held.dtype, device=torch.device(NAME, 0),
            dispatch_sizes_strides_policy="sizes",  # `unsqueeze_` changes the held tensor's only
        )  # fmt: skip

    def __init__(self, held: torch.Tensor):
        self.held = held

    def __repr__(self, **_) -> str:
        return f"OtherDevice({self.held})"

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _compute(function, args, kwargs or {})


class _Mode(TorchDispatchMode):
    """Sees what makes tensors, too: `torch.zeros(..., device="elsewhere")`."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _compute(function, args, kwargs or {})


def _compute(function, args: tuple, kwargs: dict):
    name = function._schema.name
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    elsewhere = any(isinstance(t, OtherDevice) for t in tensors)
    if elsewhere:
        _refuse_mixed(name, tensors)
    device = kwargs.get("device")
    if device is not None:
        elsewhere = torch.device(device).type == NAME
        kwargs = {**kwargs, "device": torch.device("cpu")}
    held_args, held_kwargs = tree_map_only(OtherDevice, lambda t: t.held, (args, kwargs))
    result = function(*held_args, **held_kwargs)
    if function._schema.is_mutable and name.endswith("_"):
        return args[0] if function._schema.returns else None
    if not elsewhere or name in _SCALARS:
        return result
    return tree_map_only(torch.Tensor, OtherDevice, result)


def _refuse_mixed(name: str, tensors: list[torch.Tensor]) -> None:
    """A tensor without dimensions counts as a number, as on every device."""
    left_behind = [t for t in tensors if not isinstance(t, OtherDevice) and t.dim() > 0]
    if not left_behind or name in _COPIES:
        return
    if name in _INDEXING and isinstance(tensors[0], OtherDevice):
        return
    raise RuntimeError(
        f"{name}: all tensors must be on one device, but one of shape "
        f"{tuple(left_behind[0].shape)} is on the CPU"
    )


def _register() -> torch.library.Library:
    """The library lives as long as what it registers."""
    _REGISTER(NAME)
    library = torch.library.Library("aten", "IMPL")

    def empty_strided(size, stride, dtype=None, layout=None, device=None, pin_memory=None):
        return OtherDevice(torch.empty_strided(size, stride, dtype=dtype))

    def empty(size, dtype=None, layout=None, device=None, pin_memory=None, memory_format=None):
        return OtherDevice(torch.empty(size, dtype=dtype))

    def copy_from(source, target, non_blocking=False):
        target.held.copy_(getattr(source, "held", source))
        return target

    # torch.tensor and new_tensor call them past every dispatch mode.
    library.impl("empty_strided", empty_strided, "PrivateUse1")
    library.impl("empty.memory_format", empty, "PrivateUse1")
    library.impl("_copy_from", copy_from, "PrivateUse1")
    return library


@contextmanager
def other_device():
    """While this context lasts the device "elsewhere" is there; yields its name.

    Only in a process of its own: PyTorch counts the kinds of devices once and for all at the first
    backward pass, and activation checkpointing takes the new one for the machine's accelerator.
    """
    global _LIBRARY
    _LIBRARY = _LIBRARY or _register()
    tolist, numpy = torch.Tensor.tolist, torch.Tensor.numpy

    def tolist_of(self):
        return tolist(self.held if isinstance(self, OtherDevice) else self)

    def numpy_of(self, *args, **kwargs):
        if isinstance(self, OtherDevice):
            raise TypeError(f"a tensor on {NAME} has no NumPy array: use .cpu() first")
        return numpy(self, *args, **kwargs)

    torch.Tensor.tolist, torch.Tensor.numpy = tolist_of, numpy_of
    try:
        with _Mode():
            yield NAME
    finally:
        torch.Tensor.tolist, torch.Tensor.numpy = tolist, numpy
