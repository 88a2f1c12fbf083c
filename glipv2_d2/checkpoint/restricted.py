"""Unpickling that builds tensors, arrays and plain containers, and never runs or imports the rest.

A pickle names functions and calls them while it is loaded. Here every name is looked up in a short
table; what it does not hold becomes a `StandIn`, an object of no behavior. So the weights
of a file can be read although an optimizer or scheduler of an unknown class lies beside them.
"""

import pickle
from collections import OrderedDict
from types import ModuleType

import torch

__all__ = ["ArrayUnpickler", "StandIn", "restricted_pickle"]


class StandIn:
    """In place of an object that is not unpickled: takes what a pickle does to it, does nothing."""

    dump_patches = False  # torch asks for it where a class stands in for one of nn.Module

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    def __call__(self, *args, **kwargs):
        return self

    def __setstate__(self, state):
        pass

    def __setitem__(self, key, value):
        pass

    def append(self, value):
        pass

    add = extend = append


def _tensor(storage, offset, size, stride, *_):
    """A tensor of a storage; hooks and metadata, which could hold anything, are dropped."""
    return torch.empty(0, dtype=storage.dtype).set_(storage._untyped_storage, offset, size, stride)


def _parameter(data, *_):
    return data


# Functions of this module's own, not torch's: a pickle may set attributes of what it is handed.
_TENSOR_PARTS = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}


def restricted_pickle(found: set[str]) -> ModuleType:
    """What `torch.load(pickle_module=...)` takes: a pickle module that knows tensors only.

    Args:
        found: gets the full names of everything that became a stand-in.
    """

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str):
            if (module, name) in _TENSOR_PARTS:
                return _TENSOR_PARTS[module, name]
            found.add(f"{module}.{name}")
            # A new class each time: the opcodes that build an object ask for a class.
            return type("StandIn", (StandIn,), {})

    result = ModuleType("restricted_pickle")
    vars(result).update(
        Unpickler=Unpickler,
        UnpicklingError=pickle.UnpicklingError,
        load=lambda file, **options: Unpickler(file, **options).load(),
    )
    return result


class ArrayUnpickler(pickle.Unpickler):
    """Loads NumPy arrays and plain containers, which is all that a zoo `.pkl` holds.

    `foreign` is the name of the object that it stopped at, which is neither.
    """

    foreign = ""

    _ALLOWED = {
        ("_codecs", "encode"),
        ("collections", "OrderedDict"),
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
    }

    def find_class(self, module: str, name: str):
        if (module, name) not in self._ALLOWED:
            self.foreign = f"{module}.{name}"
            raise pickle.UnpicklingError(self.foreign)
        return super().find_class(module, name)
