"""A model as graphs in files, for programs that do not have its Python code."""

from glipv2_d2.errors import ExportError
from glipv2_d2.export.check import check_export
from glipv2_d2.export.package import export_glip
from glipv2_d2.export.runtime import ExportedGLIP, load_exported

__all__ = ["ExportError", "ExportedGLIP", "check_export", "export_glip", "load_exported"]
