"""Annotations of LVIS and Flickr30k Entities on the disk."""

import pytest
from detectron2.data.datasets import register_lvis_instances

from tests.support import lvis_sets

# Entity 1: two boxes, one of them shared with entity 2. 3: "nobox". 4: "scene". 5: no object.
XML = """<annotation><filename>77.jpg</filename>
<size><width>200</width><height>150</height><depth>3</depth></size>
<object><name>1</name><name>2</name>
  <bndbox><xmin>1</xmin><ymin>1</ymin><xmax>41</xmax><ymax>41</ymax></bndbox></object>
<object><name>1</name>
  <bndbox><xmin>101</xmin><ymin>1</ymin><xmax>141</xmax><ymax>41</ymax></bndbox></object>
<object><name>3</name><scene>0</scene><nobndbox>1</nobndbox></object>
<object><name>4</name><scene>1</scene><nobndbox>0</nobndbox></object>
</annotation>"""
TXT = """[/EN#1/people/animals Two young guys] see [/EN#3/other nothing] of [/EN#2/clothing a hat] .

[/EN#5/other It] is [/EN#4/scene a street] .
The [/EN#1/people guys]
"""


@pytest.fixture
def entities(tmp_path):
    """The folder of Flickr30k Entities with one image."""
    for folder, name, text in (("Annotations", "77.xml", XML), ("Sentences", "77.txt", TXT)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def register_lvis(tmp_path):
    """register_lvis(name, content of the json) -> name; registered until the test ends."""

    def _register(name, content):
        path = lvis_sets.write_lvis(content, tmp_path / f"{name}.json")
        register_lvis_instances(name, {}, path, str(tmp_path))
        return name

    return _register
