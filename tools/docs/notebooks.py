"""Jupyter notebooks as Markdown: their cells, with the outputs that are stored in them."""

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
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data or "image/jpeg" in data:
                kind = "png" if "image/png" in data else "jpeg"
                name = f"{path.stem}_{len(pictures)}.{kind}"
                pictures[name] = base64.b64decode(data[f"image/{kind}"])
                parts.append(f"![what the cell shows]({name})")
            else:
                text = "".join(output.get("text", data.get("text/plain", "")))
                parts.append(f"```text\n{_ESCAPE.sub('', text).rstrip()}\n```")
    return "\n\n".join(parts) + "\n", pictures
