"""Which folder may import which: the table of docs/architecture.md, read and enforced."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGES = ("glipv2_d2", "glip_commands")
USERS_OF_SCENES = (
    "configs/demo/",
    "datasets/",
    "glipv2_d2/cli/",
    "glipv2_d2/scenes/",
    "tests/",
    "tools/",
)


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(p): p for package in PACKAGES for p in (ROOT / package).rglob("*.py")}


def statements(node):
    """All nodes of a tree, each with whether it is there for type checkers alone."""
    for child in ast.iter_child_nodes(node):
        for_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        yield child, for_types
        for inner, also in statements(child):
            yield inner, also or for_types


def imports(path, known=MODULES):
    """(module, for types alone) of each import of ours, also of those within functions."""
    module = module_name(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node, for_types in statements(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: 1 - node.level or None] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
            names = [name if name in known else base for name in names]
        for name in names:
            if name in known and name != module:
                yield name, for_types


GRAPH = {module: set(imports(path)) for module, path in MODULES.items()}


def layer(module):
    """The name of a module in the table."""
    package, _, rest = module.partition(".")
    return rest.partition(".")[0] if rest and package == "glipv2_d2" else package


EDGES = {(layer(a), layer(b)) for a in GRAPH for b, _ in GRAPH[a]} - {
    (layer(m), layer(m)) for m in MODULES
}


@pytest.fixture(scope="module")
def rank():
    """Name -> row of the table, from the top."""
    (table,) = re.findall(r"^\| from the top .*\n\|---.*\n((?:\|.*\n)*)", PAGE, re.M)
    cells = [line.split("|")[1] for line in table.splitlines()]
    return {name: row for row, cell in enumerate(cells) for name in re.findall(r"`(\w+)`", cell)}


def test_the_table_has_every_folder_and_no_other(rank):
    assert set(rank) == {layer(module) for module in MODULES}


def test_no_import_runs_up(rank):
    assert not [(a, b) for a, b in sorted(EDGES) if rank[a] >= rank[b]]


def test_no_circle():
    """A `graphlib.CycleError` names the modules; what only type checkers see is no import."""
    order = TopologicalSorter({m: {b for b, for_types in GRAPH[m] if not for_types} for m in GRAPH})
    assert len(list(order.static_order())) == len(MODULES)


def test_the_picture_shows_imports_that_there_are():
    (picture,) = re.findall(r"^## Layers\n\n```mermaid\n(.*?)```", PAGE, re.M | re.S)
    arrows = set(re.findall(r"(\w+) --> (\w+)", picture))
    assert arrows and arrows <= EDGES


def test_only_the_demo_and_its_like_import_the_scenes():
    users = {
        path.relative_to(ROOT).as_posix()
        for folder in ("configs", "datasets", "glip_commands", "glipv2_d2", "tests", "tools")
        for path in (ROOT / folder).rglob("*.py")
        if any(name.startswith("glipv2_d2.scenes") for name, _ in imports(path))
    }
    assert users and not [
        user for user in users if not user.startswith((*USERS_OF_SCENES, "configs/demo/"))
    ]
