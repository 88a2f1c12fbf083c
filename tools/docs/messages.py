"""The page of every error message, read out of the code, so that it is complete and true."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("glipv2_d2", "glip_commands")
# Where the values of a message stand; what they are is told by the names in the code.
_VALUE = "‹{}›"
HEAD = """# Every error message

What you can mend ends a command in one line, `error: ...`, and status 2; in Python it is one of
the classes of [`glipv2_d2.errors`](reference/errors.md). The message names the thing and the
remedy. All of them are here, by the module that they come from: search for a few words of yours.
Between ‹ and › stands what differs from case to case. What has no message is in
[Troubleshooting](troubleshooting.md).
"""


class Message(NamedTuple):
    kind: str
    text: str


def messages(root: Path) -> dict[str, list[Message]]:
    """The messages of each module that has some, by its path."""
    paths = sorted(
        p for name in ("glipv2_d2", "glip_commands") for p in (root / name).rglob("*.py")
    )
    trees = {p.relative_to(root).as_posix(): ast.parse(p.read_text("utf-8")) for p in paths}
    kinds = error_kinds(trees.values())
    made = {name: text for tree in trees.values() for name, text in _made(tree).items()}
    found = {
        path: list(dict.fromkeys(_messages(tree, kinds, made | _made(tree))))
        for path, tree in trees.items()
    }
    return {path: rows for path, rows in found.items() if rows}


def error_kinds(trees) -> set[str]:
    """`UserError`, click's kind, and the classes that are made of them."""
    bases = {
        node.name: {ast.unparse(base).split(".")[-1] for base in node.bases}
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    kinds = {"UserError", "InstallError", "ClickException", "BadParameter"}
    while more := {name for name, of in bases.items() if of & kinds and name not in kinds}:
        kinds |= more
    return kinds


def _made(tree: ast.AST) -> dict[str, str]:
    """What functions return that make a text, by their names."""
    return {
        function.name: text
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for node in _in_scope(function)
        if isinstance(node, ast.Return) and node.value and (text := _text(node.value))
    }


def _messages(tree: ast.AST, kinds: set[str], made: dict[str, str]) -> Iterator[Message]:
    for scope in ast.walk(tree):
        if not isinstance(scope, (ast.FunctionDef, ast.Module)):
            continue
        inner = list(_in_scope(scope))
        named = {
            ast.unparse(node.targets[0]): node.value
            for node in inner
            if isinstance(node, ast.Assign) and len(node.targets) == 1
        }
        for node in inner:
            if isinstance(node, ast.Call) and node.args:
                kind = ast.unparse(node.func).split(".")[-1]
                argument = named.get(ast.unparse(node.args[0]), node.args[0])
                text = _text(argument)
                if isinstance(argument, ast.Call):
                    text = made.get(ast.unparse(argument.func).split(".")[-1], "")
                if kind in kinds and text and any(map(str.isalpha, _without_values(text))):
                    yield Message(kind, text)


def _in_scope(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function without those of the functions inside it."""
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, ast.FunctionDef):
            yield child
            yield from _in_scope(child)


def _text(node: ast.expr) -> str:
    """What a message says, as far as the code tells; empty where it is made elsewhere."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_text, node.values))
    if isinstance(node, ast.FormattedValue):
        return _VALUE.format(_name(node.value))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    if isinstance(node, ast.IfExp):
        return _text(node.body)
    return ""


def _name(node: ast.expr) -> str:
    """The last word of what is inserted: `record.file_name` is the "file name"."""
    if isinstance(node, ast.Call):
        return _name(node.args[0] if node.args else node.func)
    if isinstance(node, ast.Attribute):
        return node.attr.strip("_").replace("_", " ")
    if isinstance(node, ast.Name):
        return node.id.strip("_").replace("_", " ")
    return "..."


def _without_values(text: str) -> str:
    while "‹" in text:
        before, _, rest = text.partition("‹")
        text = before + rest.partition("›")[2]
    return text


def messages_page(root: Path) -> str:
    parts = [HEAD]
    folder = ""
    for path, rows in messages(root).items():
        if (here := "/".join(path.split("/")[:2])) != folder:
            folder = here
            parts.append(f"## {folder.removesuffix('.py')}\n")
        if path != folder:
            parts.append(f"### {path}\n")
        parts += [f"- **{row.kind}**: {_escaped(row.text)}" for row in rows]
        parts.append("")
    return "\n".join(parts)


def _escaped(text: str) -> str:
    """A message as code, whatever it holds; its lines are one."""
    text = " ".join(text.split())
    ticks = "``" if "`" in text else "`"
    return f"{ticks} {text} {ticks}" if "`" in text else f"`{text}`"
