"""The pages of the site: what is written in the repository, and what is made of its code.

Markdown is written for GitHub, where links are paths in the repository. On the site such a link
leads to the page of that file; a file that is no page (a config, a module) gets one that shows it.
"""

import ast
import os
import re
import shutil
from pathlib import Path

import yaml

from .equations import with_equations
from .messages import messages_page
from .notebooks import notebook_page

ROOT = Path(__file__).resolve().parents[2]
# Pages that do not lie in docs/, by the folder or file of the repository.
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "datasets/README.md": "datasets.md",
    "tests/README.md": "tests.md",
}
IMAGES = {".jpg", ".png", ".svg"}
# A fence, which is left as it is, or a link: its text ends before, its address is the group.
FENCE_OR_LINK = re.compile(r"^(`{3,}).*?^\1$|(?<=\]\()([^)\s]+)(?=\))", re.MULTILINE | re.DOTALL)
# Beside the packages, the modules that users import; what commands are made of is no interface.
MODULES = ("config", "errors", "model_zoo")
INSIDE = {"cli", "scenes"}
HIDDEN = "---\nsearch:\n  exclude: true\nhide:\n  - navigation\n---\n\n"


class Site:
    """Pages by their path on the site; `problems` names the links to nothing."""

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        self.files: dict[str, bytes] = {}
        self.problems: list[str] = []
        written = [*ELSEWHERE, *(p.relative_to(ROOT).as_posix() for p in _documents())]
        self.page_of = {source: ELSEWHERE.get(source) or _in_docs(source) for source in written}

    def add(self, source: str) -> None:
        """The page that is written in the file `source` of the repository."""
        page, path = self.page_of[source], ROOT / source
        pictures: dict[str, bytes] = {}
        if path.suffix == ".ipynb":
            text, pictures = notebook_page(path)
            self.files |= {f"{Path(page).parent}/{name}": data for name, data in pictures.items()}
        else:
            text = path.read_text(encoding="utf-8")

        def link(found: re.Match) -> str:
            kept = found[1] or found[2] in pictures
            return found[0] if kept else self._address(found[2], source, page)

        self.pages[page] = with_equations(FENCE_OR_LINK.sub(link, text))

    def _address(self, address: str, source: str, page: str) -> str:
        path, _, anchor = address.partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return address
        target = (ROOT / source).parent.joinpath(path).resolve()
        name = os.path.relpath(target, ROOT)
        if not target.is_file():
            self.problems.append(f"{source}: the link to {address} leads to no file")
            return address
        if target.suffix in IMAGES:
            goal = name.removeprefix("docs/")
            self.files[goal] = target.read_bytes()
        else:
            goal = self.page_of.get(name) or self._show(name)
        return os.path.relpath(goal, Path(page).parent) + (f"#{anchor}" if anchor else "")

    def _show(self, name: str) -> str:
        """The page that shows a file of the repository as it is."""
        language = Path(name).suffix.lstrip(".") or "text"
        code = (ROOT / name).read_text(encoding="utf-8").rstrip()
        page = f"source/{name}.md"
        self.pages[page] = f'{HIDDEN}# {name}\n\n````{language} linenums="1"\n{code}\n````\n'
        return page


def _documents() -> list[Path]:
    return sorted(p for kind in ("md", "ipynb") for p in (ROOT / "docs").rglob(f"*.{kind}"))


def _in_docs(source: str) -> str:
    return Path(source).relative_to("docs").with_suffix(".md").as_posix()


def reference_pages() -> dict[str, str]:
    """A page for each package, and for the modules of `MODULES`: what `__all__` names."""
    paths = [ROOT / "glipv2_d2" / f"{name}.py" for name in MODULES]
    paths += [p for p in (ROOT / "glipv2_d2").rglob("__init__.py") if INSIDE.isdisjoint(p.parts)]
    pages = {}
    for path in paths:
        names = sorted(_all(path) - {"__version__"}, key=str.lower)
        if not names:
            continue
        module = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        module = module.removesuffix(".__init__")
        members = "".join(f"        - {name}\n" for name in names)
        text = f"# {module}\n\n::: {module}\n    options:\n      members:\n{members}"
        pages[f"reference/{module.removeprefix('glipv2_d2.')}.md"] = text
    return pages


def _all(path: Path) -> set[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def navigation() -> set[str]:
    """The pages that `mkdocs.yml` names."""
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    pages = set()

    def walk(entry) -> None:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            if isinstance(value, list):
                for inner in value:
                    walk(inner)
            else:
                pages.add(value)

    walk({"": config["nav"]})
    return pages


def collect(folder: Path) -> list[str]:
    """Write all pages into a folder, anew; what is wrong with them, a line each."""
    site = Site()
    for source in site.page_of:
        site.add(source)
    site.pages["messages.md"] = messages_page(ROOT)
    site.pages |= reference_pages()
    shutil.rmtree(folder, ignore_errors=True)
    texts = {page: text.encode() for page, text in site.pages.items()}
    for page, content in (texts | site.files).items():
        target = folder / page
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    shown = {page for page in site.pages if not page.startswith("source/")}
    named = navigation()
    site.problems += [f"mkdocs.yml: {page} is not in the navigation" for page in shown - named]
    site.problems += [f"mkdocs.yml: there is no page {page}" for page in named - shown]
    return site.problems
