"""A model as graphs in files, for programs that do not have its Python code."""

from ..errors import ExportError
from .check import check_export
from .package import export_glip
from .runtime import ExportedGLIP

__all__ = ["ExportError", "ExportedGLIP", "check_export", "export_glip"]
