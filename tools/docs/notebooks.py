"""Jupyter notebooks as Markdown: their cells, with the outputs that are stored in them.

Pictures are JPEG, as `.ci/documents.py --store` leaves them.
"""

import base64
import json
import re
from pathlib import Path

_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")  # colors of a terminal


def notebook_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook's Markdown, and its pictures by their names beside it."""
    pictures: dict[str, bytes] = {}
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        printed, shown = "", []
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/jpeg" in data:
                name = f"{path.stem}_{len(pictures)}.jpeg"
                pictures[name] = base64.b64decode(data["image/jpeg"])
                shown.append(f"![what the cell shows]({name})")
            else:
                printed += "".join(output.get("text", data.get("text/plain", "")))
        if printed:
            parts.append(f"```text\n{_ESCAPE.sub('', printed).rstrip()}\n```")
        parts += shown
    return "\n\n".join(parts) + "\n", pictures
