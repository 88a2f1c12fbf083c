"""What a user can mend: every command ends such an error in one line, without a traceback.

Whoever raises one says what is wrong and what to do. Each kind is also the built-in exception that
Python's users expect, so that `except ValueError` around a call goes on to work.

`command` is that end of a command; `user_message` tells what a user can mend from a
bug, also where the error comes from a data worker; `hand_over` and `handed_over` bring
it from a spawned process to the one that started it.
"""

from __future__ import annotations

import functools
import json
import os
import re
import select
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "ExportError",
    "ImageReadError",
    "MissingImageError",
    "MissingPackageError",
    "PromptError",
    "PromptTooLongError",
    "TrainingDiverged",
    "UsageError",
    "UserError",
    "command",
    "did_you_mean",
    "hand_over",
    "handed_over",
    "printable",
    "user_message",
    "well_formed",
]

# Modules of optional packages -> the extra of setup.py that installs them.
_EXTRAS = {
    "av": "video",
    "faiss": "search",
    "fastapi": "serve",
    "matplotlib": "demo",
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
    "openvino": "export",
    "open_clip": "clip",
    "ray": "ray",
    "skimage": "demo",
    "sklearn": "demo",
    "supervision": "video",
    "tensorboard": "demo",
    "textblob": "labels",
    "trackers": "video",
    "uvicorn": "serve",
}
# How PyTorch's data loader and pin-memory thread wrap an error: the text of the whole traceback.
_WRAPPED = re.compile(r"Caught \w+ in .*\.\nOriginal Traceback \(most recent call last\):\n")
_RAISED = re.compile(r"^([A-Za-z_][\w.]*): ", re.MULTILINE)


def printable(text: str) -> str:
    """The text with half characters escaped, of which json may hold some: no log takes them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """What to add to a message that a name is unknown; empty where none is alike."""
    alike = get_close_matches(word, list(known), n=1)
    return f" (did you mean '{alike[0]}'?)" if alike else ""


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


class MissingPackageError(UserError, ImportError):
    """An optional package, or a model of it, is not installed; the message says how to get it."""


class _HandedOver(Exception):
    """What `hand_over` raises: json of the kind and the message of a user's error."""


def command(main: Callable[..., int | None]) -> Callable[..., int | None]:
    """Make a function the `main` of a command: what a user can mend is one line, no traceback.

    The function returns the exit status, for `sys.exit`: that of `main`; 2 after an error that a
    user can mend, which is printed as `error: ...`; 130 after Ctrl-C; 141 when the reader of the
    output has gone (`| head`). Any other error is a bug and keeps its traceback.
    """

    @functools.wraps(main)
    def run(*args, **kwargs) -> int | None:
        try:
            status = main(*args, **kwargs)
            sys.stdout.flush()  # a reader that has gone is noticed here, not at the very end
            return status
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        except Exception as error:
            if isinstance(error, BrokenPipeError) and _reader_has_gone():
                return 141
            message = user_message(error)
            if message is None:
                raise
            print(f"error: {message}", file=sys.stderr, flush=True)
            return 2

    return run


def user_message(error: BaseException) -> str | None:
    """What to tell the user of an error that the user can mend; None for a bug.

    That is a `UserError`, an `OSError` (a full disk, a folder that cannot be written) or
    an optional package that is not installed, raised here or in a data worker.
    """
    if isinstance(error, (UserError, RuntimeError, OSError)) and _WRAPPED.match(str(error)):
        return _message_in_traceback(str(error))
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):
        if error.strerror and error.filename is not None:
            return f"{error.strerror}: '{error.filename}'"
        return str(error) or type(error).__name__
    if isinstance(error, ModuleNotFoundError):
        module = (error.name or "").split(".")[0]
        if module in _EXTRAS:
            extra = _EXTRAS[module]
            return f"the package '{module}' is not installed: pip install 'glipv2_d2[{extra}]'"
    return None


def hand_over(main: Callable, *args) -> None:
    """Run `main` in a spawned process so that `handed_over` finds a user's error."""
    try:
        main(*args)
    except Exception as error:
        message = user_message(error)
        if message is None:
            raise
        # The nearest kind that is defined here: the other process may not know a nearer one.
        kind = next((k for k in type(error).__mro__ if k.__module__ == __name__), UserError)
        raise _HandedOver(json.dumps([kind.__name__, message])) from None


def handed_over(error: Exception) -> UserError | None:
    """The user's error that ended a process which ran `hand_over`; None if it was a bug.

    Args:
        error: what `torch.multiprocessing.spawn` raises: its text ends with the traceback.
    """
    mark = rf"^[\w.]*\b{_HandedOver.__name__}: (\[.*\])\s*\Z"
    found = re.search(mark, str(error), re.MULTILINE)
    if found is None:
        return None
    kind, message = json.loads(found.group(1))
    return globals()[kind](message)


@contextmanager
def well_formed(what: str) -> Iterator[None]:
    """Where a file of a known form is read: a form that is another is a `DataError`.

    Args:
        what: the beginning of the message, for instance `"a file"`.
    """
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        detail = str(error) if isinstance(error, ValueError) else repr(error)
        raise DataError(f"{what} is not in the expected form: {detail}") from error


def _message_in_traceback(text: str) -> str | None:
    """The message of the last error in a traceback's text, if a user can mend it."""
    raised = list(_RAISED.finditer(text))
    names = {f"{k.__module__}.{k.__qualname__}" for k in _kinds(UserError)}
    names |= {k.__name__ for k in (OSError, *_kinds(OSError)) if k.__module__ == "builtins"}
    # A message may have lines of its own that look alike; what comes after it is no traceback.
    for found in reversed(raised):
        if found.group(1) in names and "Traceback (most recent" not in text[found.end() :]:
            return text[found.end() :].strip()
    return None


def _kinds(kind: type) -> set[type]:
    return {kind}.union(*map(_kinds, kind.__subclasses__()))


def _reader_has_gone() -> bool:
    """Whether standard output is a pipe that nobody reads any more; it is silenced then."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)  # errors are always told
    if not any(event & select.POLLERR for _, event in output.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True
