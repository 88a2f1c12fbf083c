"""Published formats: each is recognized and converted in a module of its own.

`WeightFormat` shows how to add one.
"""

from .clip import ClipImageTower, ClipTextTower
from .glip import OfficialGlip
from .registry import WEIGHT_FORMATS, WeightFormat, find_format
from .swin import ImageNetSwin
from .unicl import Unicl

__all__ = [
    "WEIGHT_FORMATS",
    "ClipImageTower",
    "ClipTextTower",
    "ImageNetSwin",
    "OfficialGlip",
    "Unicl",
    "WeightFormat",
    "find_format",
]
