"""The one error of exporting a model and of using an export."""

__all__ = ["ExportError"]


class ExportError(RuntimeError):
    """A model that cannot be exported, or an export that is missing, damaged or differs."""
