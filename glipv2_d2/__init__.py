"""GLIP and GLIPv2 as a Detectron2 extension.

Importing the package registers its meta-architectures, backbones and data sets with Detectron2.
"""

import gc
import importlib.util
import warnings

__version__ = "0.1.0"

if importlib.util.find_spec("detectron2") is None:
    raise ModuleNotFoundError(
        "glipv2_d2 extends Detectron2, which is not installed: run `glip install-detectron2` (in a "
        "clone: python tools/install_detectron2.py), which needs neither git nor a compiler",
        name="detectron2",
    )

# A tenth of each process's start was Python's garbage collector, which looked for cycles among the
# million objects of these modules.
_collects = gc.isenabled()
gc.disable()
try:
    with warnings.catch_warnings():  # fvcore's, at every start of every process
        warnings.filterwarnings("ignore", message=".*torch.jit.script")
        import detectron2.modeling  # noqa: F401

    from . import checkpoint, data, model_zoo, modeling  # noqa: F401  (registration; the zoo)
    from .config import add_glip_config, get_config
    from .data.datasets.builtin import register_all
    from .errors import PromptError
    from .language.prompt import Prompt
    from .renamed import find_renamed

    find_renamed()
    register_all()
finally:
    if _collects:
        gc.enable()

__all__ = ["Prompt", "PromptError", "__version__", "add_glip_config", "get_config", "model_zoo"]
