"""docs/architecture.md names what there is: files, classes, functions, attributes."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PROSE = re.sub(r"```\w+\n.*?```", "", PAGE, flags=re.S)
PICTURES = re.findall(r"```mermaid\n(.*?)```", PAGE, re.S)
# What stands in backticks and is no name.
COMMANDS = (
    "glip|glip train|glip detect|ask|caption|label|inspect|convert|merge|export|odinw|few-shot|demo"
)
CALLS = {"import glipv2_d2", "--help", "predictor(image, prompt)"}
NO_NAMES = {*COMMANDS.split("|"), *CALLS, "[start, end)"}
FOLDERS = {p.stem for p in (ROOT / "glipv2_d2").iterdir()} | {"glip_commands", "glipv2_d2"}


def definitions(tree, prefix=""):
    """Classes and functions of a file, and what a class has: methods and attributes."""
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            yield prefix + node.name
        if isinstance(node, ast.ClassDef):
            yield from definitions(node, f"{node.name}.")
            for inner in ast.walk(node):
                if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name):
                    yield f"{node.name}.{inner.target.id}"
                if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
                    if isinstance(inner.value, ast.Name) and inner.value.id == "self":
                        yield f"{node.name}.{inner.attr}"


def names_in(path):
    return set(definitions(ast.parse(path.read_text(encoding="utf-8"))))


FILES = [*(ROOT / "glipv2_d2").rglob("*.py"), *(ROOT / "glip_commands").glob("*.py")]
NAMES = set().union(*map(names_in, FILES))


def rows(heading):
    """Cells of the table under a heading, without its head."""
    (section,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def code(text):
    return re.findall(r"`([^`]+)`", text)


@pytest.mark.parametrize("heading", re.findall(r"^## (From .*)$", PAGE, re.M))
def test_the_steps_of_a_walk_are_in_their_files(heading):
    path = None
    for where, what, _ in rows(heading):
        if where:
            path = ROOT / where.strip("`")
        assert path.is_file(), path
        missing = set(code(what)) - names_in(path)
        assert not missing, (path, missing)


def test_classes_have_the_attributes_that_are_told():
    told = rows("What is handed on")
    assert len(told) > 5
    for name, attributes in told:
        (cls,) = code(name)
        found = {f"{cls}.{a}" for a in code(attributes) if a != "[start, end)"}
        assert found <= NAMES, found - NAMES
        assert fields(cls) <= found, fields(cls) - found  # and none is left out


def fields(cls):
    """The fields of a dataclass or named tuple."""
    for path in FILES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name == cls:
                names = [n.target.id for n in node.body if isinstance(n, ast.AnnAssign)]
                return {f"{cls}.{name}" for name in names}
    raise AssertionError(cls)


def test_every_other_name_is_known():
    attributes = {name.rpartition(".")[2] for name in NAMES}
    unknown = set(code(PROSE)) - NO_NAMES - NAMES - FOLDERS - attributes
    assert not [text for text in unknown if not (ROOT / text).exists()]


def test_the_boxes_of_the_picture_are_classes_and_functions():
    model = PICTURES[0]
    boxes = re.findall(r'\w+\["([\w.]+)<br/>(.*?)"\]', model)
    assert len(boxes) == len(re.findall(r'\w\["', model)) > 10
    for name, below in boxes:
        assert name in NAMES, name
        for word in re.findall(r"\b[A-Z][a-z]+[A-Z]\w+", below):
            assert word in NAMES, word


def test_links():
    for target in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
