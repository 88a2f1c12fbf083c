"""Images beside labels, for tools that find a label by the name of its image."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from PIL import Image

from ..errors import UserError
from ..sources import is_address
from .labels import Labels

# What the tools read; images of other kinds become PNG.
_COMMON = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def place_images(labels: Labels, folder: Path) -> list[str]:
    """Fill a folder with the images, each under its name of `labels.stems`.

    A file becomes a link to it, so that nothing is copied; what is none (an address), or of a kind
    that few tools read, is read and written as PNG. What cannot be read then is told in the log.

    Returns:
        Of each image its name in the folder, also where it is not there.
    """
    folder.mkdir()
    names, missing = [], []
    for image, path, stem in zip(labels.images, labels.paths, labels.stems):
        as_it_is = labels.read is None or _is_common_file(image.file)
        names.append(stem + (os.path.splitext(path)[1] if as_it_is else ".png"))
        if labels.read is None:
            continue
        if as_it_is:
            os.symlink(os.path.abspath(image.file), folder / names[-1])
            continue
        try:
            Image.fromarray(labels.read(image.file)[:, :, ::-1]).save(folder / names[-1])
        except (UserError, OSError) as error:
            missing.append(str(error))
    if missing:
        logging.getLogger(__name__).warning(
            "%d images are not beside their labels: %s", len(missing), missing[0]
        )
    return names


def _is_common_file(file: str) -> bool:
    return not is_address(file) and file.lower().endswith(_COMMON) and os.path.isfile(file)
