"""The one error of everything that has to do with checkpoints."""

__all__ = ["CheckpointError"]


class CheckpointError(RuntimeError):
    """A checkpoint that is missing, damaged, of another kind, or of another model."""
