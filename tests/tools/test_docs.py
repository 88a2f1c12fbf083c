"""The site's pages: links of the repository, error messages of the code, stored notebooks."""

import base64
import json
import re

import pytest

from tests.support import ROOT
from tools.docs.messages import Message, messages, messages_page
from tools.docs.notebooks import notebook_page

KINDS = "UsageError|ConfigError|CheckpointError|DataError|RecordError|PromptError|ExportError"
CODE = '''
from .errors import DataError, UserError


class Odd(DataError):
    """Of its own."""


def read(path, record, kind):
    problem = f"{path}: the field {record.field_name!r} is missing"
    if kind == 1:
        raise DataError(problem)
    if kind == 2:
        raise Odd("no boxes, " + f"in {len(record)} records; " "check the file")
    if kind == 4:
        raise DataError(made(path))
    if kind == 3:
        return UserError(f"use {'this' if record else 'that'} one")
    raise ValueError("a bug")


def made(path):
    return f"{path} is damaged: fetch it again"


def show():
    def inner(problem):
        raise DataError(problem)  # made elsewhere
'''


@pytest.fixture
def small_clone(tmp_path):
    package = tmp_path / "glipv2_d2"
    package.mkdir()
    (package / "errors.py").write_text(
        "class UserError(Exception): ...\nclass DataError(UserError): ..."
    )
    (package / "reading.py").write_text(CODE)
    (tmp_path / "glip_commands").mkdir()
    return tmp_path


def test_messages_are_read_out_of_the_code(small_clone):
    assert messages(small_clone) == {
        "glipv2_d2/reading.py": [
            Message("DataError", "‹path›: the field ‹field name› is missing"),
            Message("Odd", "no boxes, in ‹record› records; check the file"),
            Message("DataError", "‹path› is damaged: fetch it again"),
            Message("UserError", "use ‹...› one"),
        ]
    }
    page = messages_page(small_clone)
    assert "## glipv2_d2/reading\n" in page
    assert "- **Odd**: `no boxes, in ‹record› records; check the file`\n" in page


def test_no_error_of_this_project_is_missing():
    found = messages(ROOT)
    sources = {path: (ROOT / path).read_text(encoding="utf-8") for path in found}
    raised = sum(len(re.findall(rf"raise ({KINDS})\(", text)) for text in sources.values())
    passed_on = sum(text.count("Error(str(error))") for text in sources.values())
    assert sum(map(len, found.values())) > 0.9 * (raised - passed_on) > 400
    text = "'‹path›' is a folder; a checkpoint file is needed"
    assert Message("CheckpointError", text) in found["glipv2_d2/checkpoint/file_kinds.py"]
    # Made by a function of another module.
    texts = [row.text for row in found["glipv2_d2/modeling/text/bert.py"]]
    assert any(text.startswith("the language model '‹model›' cannot be loaded") for text in texts)


def test_a_notebook_is_shown_with_its_outputs(tmp_path):
    picture = base64.b64encode(b"jpeg").decode()
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "text"]},
        {
            "cell_type": "code",
            "source": ["print(1)"],
            "outputs": [
                {"output_type": "stream", "name": "stdout", "text": ["\x1b[31m1\x1b[0m\n"]},
                {"output_type": "stream", "name": "stdout", "text": ["2\n"]},
                {"output_type": "execute_result", "data": {"image/jpeg": picture}},
            ],
        },
    ]
    folder = tmp_path / "notebooks"
    folder.mkdir()
    (folder / "try.ipynb").write_text(json.dumps({"cells": cells}))
    text, pictures = notebook_page(folder / "try.ipynb")
    assert text == (
        "# Title\ntext\n\n```python\nprint(1)\n```\n\n```text\n1\n2\n```\n\n"
        "![what the cell shows](try_0.jpeg)\n"
    )
    assert pictures == {"try_0.jpeg": b"jpeg"}


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.ipynb")), ids=lambda p: p.stem)
def test_a_notebook_is_stored_with_small_outputs_and_no_path_of_a_machine(path):
    text = path.read_text(encoding="utf-8")
    assert len(text) < 300_000
    cells = [c for c in json.loads(text)["cells"] if c["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in cells)
    assert sum(bool(cell["outputs"]) for cell in cells) >= 4
    outputs = json.dumps([cell["outputs"] for cell in cells])
    assert not re.search(r"/(root|tmp|work|home)/|Traceback|\"stderr\"", outputs)


def test_pages_are_complete_and_their_links_lead_somewhere(tmp_path):
    pytest.importorskip("latex2mathml", reason="pip install 'glipv2_d2[docs]'")
    from tools.docs.pages import collect

    folder = tmp_path / "docs"
    assert collect(folder) == []
    assert "<math" in (folder / "architecture.md").read_text(encoding="utf-8")
    assert "::: glipv2_d2.engine" in (folder / "reference" / "engine.md").read_text()


def test_a_link_of_the_repository_becomes_one_of_the_site(tmp_path, monkeypatch):
    pytest.importorskip("latex2mathml", reason="pip install 'glipv2_d2[docs]'")
    from tools.docs import pages

    files = {
        "docs/use/demo.md": "[a](../../CONTRIBUTING.md#tests) [b](../../package/files.py) "
        "![c](x.png) [d](https://x.org/a.md) [e](#here) [f](nothing.md)\n"
        "```\n[g](nothing.md)\n```\n",
        "docs/use/x.png": "picture",
        "package/files.py": "def write(): ...\n",
        **dict.fromkeys(pages.ELSEWHERE, "# A page"),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    site = pages.Site()
    site.add("docs/use/demo.md")
    assert site.pages["use/demo.md"] == (
        "[a](../contributing.md#tests) [b](../source/package/files.py.md) "
        "![c](x.png) [d](https://x.org/a.md) [e](#here) [f](nothing.md)\n"
        "```\n[g](nothing.md)\n```\n"
    )
    assert site.problems == ["docs/use/demo.md: the link to nothing.md leads to no file"]
    assert "def write(): ..." in site.pages["source/package/files.py.md"]
    assert site.files == {"use/x.png": b"picture"}
