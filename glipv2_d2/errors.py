"""What a user can mend: every command ends such an error in one line, without a traceback.

Whoever raises one says what is wrong and what to do. Each kind is also the built-in exception that
Python's users expect, so that `except ValueError` around a call goes on to work.
"""

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "ExportError",
    "ImageReadError",
    "MissingImageError",
    "PromptError",
    "PromptTooLongError",
    "TrainingDiverged",
    "UsageError",
    "UserError",
    "printable",
]


def printable(text: str) -> str:
    """The text with half characters escaped, of which json may hold some: no log takes them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class UserError(Exception):
    """Something that a user can mend; the message names the thing and the remedy."""


class UsageError(UserError, ValueError):
    """A command line that cannot be carried out, or arguments of a call that contradict."""


class ConfigError(UserError, ValueError):
    """A config that is not there, lacks what is asked of it, or has a setting that is refused."""


class CheckpointError(UserError, RuntimeError):
    """A checkpoint that is missing, damaged, of another kind, or of another model."""


class DataError(UserError, ValueError):
    """Data that cannot be used; the message names the file, the record and the field."""

    def __init__(self, message: str):
        super().__init__(printable(message))


class ImageReadError(UserError, ValueError):
    """A file that is there but holds no image that can be read."""


class MissingImageError(UserError, FileNotFoundError):
    """There is no image file of this name."""


class PromptError(UserError, ValueError):
    """A prompt that cannot be used; the message says which part of it and why."""


class PromptTooLongError(PromptError):
    """A prompt with more tokens than the language backbone takes."""


class TrainingDiverged(UserError, FloatingPointError):
    """A loss or a gradient became NaN or infinite."""


class ExportError(UserError, RuntimeError):
    """A model that cannot be exported, or an export that is missing, damaged or differs."""
