"""GLIP and GLIPv2 as a Detectron2 extension.

Importing the package registers its meta-architectures, backbones and data sets with Detectron2.
"""

__version__ = "0.1.0"

from . import data, model_zoo, modeling  # noqa: F401  (registration; model_zoo for users)
from .config import add_glip_config, get_config
from .data.datasets.builtin import register_all
from .data.datasets.scenes import register_all_scenes
from .structures import Prompt, PromptError

register_all()
register_all_scenes()

__all__ = ["Prompt", "PromptError", "__version__", "add_glip_config", "get_config", "model_zoo"]
