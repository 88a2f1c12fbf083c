"""Doors of the installed commands that open where Detectron2 is not installed.

`import glipv2_d2` registers with Detectron2 and needs it; what installs Detectron2, or says that
it is missing, cannot lie inside. Nothing here imports more than the standard library before then.
"""

import sys


def detect() -> int | None:
    """`glip-detect`: see glipv2_d2/engine/detect.py."""
    try:
        from glipv2_d2.engine.detect import main
    except ModuleNotFoundError as error:
        if error.name != "detectron2":
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    return main()
