"""What the papers that come with the project say about it is true."""

import hashlib
import re
from pathlib import Path

import pytest
import yaml
from safetensors import safe_open

import glipv2_d2
from glipv2_d2.config import resolve_config
from glipv2_d2.renamed import RENAMED

ROOT = Path(__file__).resolve().parents[1]
CARDS = sorted((ROOT / "docs" / "model_cards").glob("*.md"))


def test_citation():
    content = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert content["cff-version"] == "1.2.0" and content["license"] == "Apache-2.0"
    assert content["version"] == glipv2_d2.__version__
    assert content["message"] and content["title"] and content["authors"]
    papers = {paper["identifiers"][0]["value"]: paper for paper in content["references"]}
    assert set(papers) == {"arXiv:2112.03857", "arXiv:2206.05836"}
    bibtex = re.search(
        r"```bibtex\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S
    )
    for value, paper in papers.items():
        assert value in bibtex[1] and paper["year"] == 2022
        assert all(author["family-names"] in bibtex[1] for author in paper["authors"])


def test_the_changelog_names_every_moved_module_and_the_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{glipv2_d2.__version__}]" in text
    for old, new in RENAMED.items():
        assert f"| `{old}` | `{new}` |" in text


def test_every_shipped_file_of_weights_has_a_card_that_the_model_zoo_links():
    shipped = {path.stem for path in (ROOT / "weights").glob("*.safetensors")}
    assert {card.stem for card in CARDS} == shipped
    zoo = (ROOT / "docs" / "model_zoo.md").read_text(encoding="utf-8")
    assert all(f"(model_cards/{name}.md)" in zoo for name in shipped)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.stem)
def test_what_a_card_states_about_its_file(card):
    facts = dict(re.findall(r"^\| ([\w-]+) \| (.*) \|$", card.read_text(encoding="utf-8"), re.M))
    path = ROOT / facts["file"].strip("`")
    content = path.read_bytes()
    assert facts["SHA-256"] == f"`{hashlib.sha256(content).hexdigest()}`"
    assert facts["size"] == f"{len(content):,} bytes"
    with safe_open(path, "pt") as file:
        tensors = [file.get_tensor(name) for name in file.keys()]
        notes = file.metadata()
    values = sum(tensor.numel() for tensor in tensors)
    dtypes = " and ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors}))
    assert facts["tensors"] == f"{len(tensors)}, {values:,} values, {dtypes}"
    assert facts["config"] == f"`{notes['config']}`" and resolve_config(notes["config"])


def test_the_readme_s_table_of_folders_is_true():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"^## What is where\n(.*?)^## ", text, re.M | re.S)
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named: set[Path] = set()
    for cell in rows:
        first, *beside = re.findall(r"`([^`]+)`", cell)
        named |= {ROOT / first, *((ROOT / first).parent / name for name in beside)}
    assert not [path for path in named if not path.exists()]
    package = (p for p in (ROOT / "glipv2_d2").iterdir() if p.suffix in ("", ".py"))
    assert not [path for path in package if path.stem[0] != "_" and path not in named]
