"""The commands of 0.1 under their old names, which are links to this file; gone in 0.3.

`install_detectron2.py` stays: it is what runs in a clone before anything is installed.
"""

import os
import sys
from pathlib import Path

MODULES = {
    "benchmark": ["tools.benchmark"],
    "convert_glip_weights": ["glip_commands", "convert"],
    "demo": ["glip_commands", "demo"],
    "detect": ["glip_commands", "detect"],
    "export_model": ["glip_commands", "export"],
    "export_weights": ["glip_commands", "convert", "--force"],
    "inspect_dataset": ["glip_commands", "inspect"],
    "install_detectron2": ["glip_commands.install_detectron2"],
    "odinw_sweep": ["glip_commands", "odinw"],
    "verify_parity": ["tools.parity"],
}

old = Path(sys.argv[0])
module, *words = MODULES[old.stem]
if old.stem != "install_detectron2":
    new = " ".join(["glip", *words] if words else ["python", "-m", module])
    print(f"warning: {old} is called `{new}` now; the old name goes with 0.3", file=sys.stderr)
clone = str(Path(__file__).resolve().parents[1])  # which need not be installed
path = os.pathsep.join(filter(None, [clone, os.environ.get("PYTHONPATH")]))
command = [sys.executable, "-m", module, *words, *sys.argv[1:]]
os.execve(sys.executable, command, {**os.environ, "PYTHONPATH": path})
