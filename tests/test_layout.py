"""The tests mirror the package, and tests/README.md is a true map of them."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.support import ROOT

TESTS = ROOT / "tests"
MAP = (TESTS / "README.md").read_text(encoding="utf-8")
FILES = sorted(path.relative_to(ROOT).as_posix() for path in TESTS.rglob("*.py"))
# Rows of the map: module and where it is tested, or a test file of several modules.
ELSEWHERE = dict(re.findall(r"^\| `((?:glip_commands|glipv2_d2)/\S+)` \| `(tests/\S+)`", MAP, re.M))
SEVERAL = set(re.findall(r"^\| `(tests/\S+\.py)` \|", MAP, re.M))


def homes(package, folders):
    """{module: its test files of its name}; the folders of the tests are those of the modules."""
    modules = [path.relative_to(ROOT / package) for path in (ROOT / package).rglob("[!_]*.py")]
    names = {m: [folder / m.with_name(f"test_{m.name}") for folder in folders] for m in modules}
    return {
        f"{package}/{module.as_posix()}": {f"tests/{name.as_posix()}" for name in files}
        for module, files in names.items()
    }


# The options of a command are tested with the command.
MODULES = homes("glipv2_d2", [Path()]) | homes(
    "glip_commands", [Path("glip_commands"), Path("cli")]
)


def trees():
    return {name: ast.parse((ROOT / name).read_text(encoding="utf-8")) for name in FILES}


def test_a_module_has_a_test_file_of_its_name_or_the_map_says_where_it_is_tested():
    assert {module for module, names in MODULES.items() if not names & set(FILES)} == set(ELSEWHERE)
    assert set(ELSEWHERE.values()) <= set(FILES)


def test_a_test_file_is_of_one_module_or_on_the_map():
    of_a_module = set().union(*MODULES.values())
    of_a_tool = {f"tests/tools/test_{p.stem}.py" for p in (ROOT / "tools").iterdir()}
    tests = {name for name in FILES if Path(name).name.startswith("test_")}
    assert tests - of_a_module - of_a_tool == SEVERAL


@pytest.mark.parametrize("folder", ["tests", "tests/support"])
def test_the_map_names_every_folder_and_every_helper(folder):
    parts = [p for p in (ROOT / folder).iterdir() if p.is_dir() or folder.endswith("support")]
    missing = [p.name for p in parts if p.name[0] not in "_." and f"`{p.name}" not in MAP]
    assert not missing


def test_a_fixture_is_defined_once():
    defined = Counter(
        node.name
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and any("pytest.fixture" in ast.unparse(d) for d in node.decorator_list)
    )
    assert [name for name, count in defined.items() if count > 1] == []


def test_nothing_is_imported_from_a_test_or_a_conftest_or_found_by_a_changed_path():
    imports = [
        f"{name}: {ast.unparse(node)}"
        for name, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and re.fullmatch(r"(tests\..*)?(conftest|test_\w+)", node.module or "")
        or isinstance(node, ast.Attribute)
        and ast.unparse(node) == "sys.path"
    ]
    assert imports == []
