"""Grounding data sets in Detectron2's catalogs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from glipv2_d2.data.datasets.mdetr import load_mdetr_json

# A loader takes (json_file, image_root, dataset_name) and returns grounding records.
GROUNDING_FORMATS: dict[str, Callable[..., list[dict[str, Any]]]] = {"mdetr": load_mdetr_json}


def register_grounding_dataset(
    name: str,
    json_file: str,
    image_root: str | Mapping[str, str],
    format: str = "mdetr",
    **metadata: Any,
) -> None:
    """Register captions with boxes under a name; the file is read when it is first used.

    Args:
        name: for ``DatasetCatalog`` and the ``datasets`` of a configuration.
        json_file: the annotations.
        image_root: the folder of the images, or one per ``data_source``.
        format: a key of ``GROUNDING_FORMATS``.
        metadata: goes into ``MetadataCatalog`` besides ``evaluator_type="grounding"``.

    Raises:
        ValueError: an unknown format, or a name that is taken.
    """
    if format not in GROUNDING_FORMATS:
        raise ValueError(
            f"unknown format {format!r} for grounding data, known: {sorted(GROUNDING_FORMATS)}"
        )
    if name in DatasetCatalog.list():
        raise ValueError(
            f"a data set named {name!r} is registered already: choose another name, or call "
            "DatasetCatalog.remove and MetadataCatalog.remove first"
        )
    load = GROUNDING_FORMATS[format]
    DatasetCatalog.register(name, partial(load, json_file, image_root, name))
    fields = {"evaluator_type": "grounding", **metadata}
    MetadataCatalog.get(name).set(json_file=json_file, image_root=image_root, **fields)
