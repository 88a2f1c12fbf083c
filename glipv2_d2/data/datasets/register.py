"""Grounding data sets in Detectron2's catalogs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from glipv2_d2.data.datasets.glip_tsv import load_glip_tsv
from glipv2_d2.data.datasets.mdetr import load_mdetr_json
from glipv2_d2.data.datasets.odvg import load_odvg
from glipv2_d2.data.datasets.phrase_classes import number_phrases
from glipv2_d2.data.datasets.tar_shards import load_tar_shards
from glipv2_d2.errors import UsageError

# A loader takes (json_file, image_root, dataset_name, **options) and returns records: a list, or
# LazyRecords where the data set is too large for one.
GROUNDING_FORMATS: dict[str, Callable[..., Sequence[dict[str, Any]]]] = {
    "mdetr": load_mdetr_json,
    "odvg": load_odvg,
    "glip_tsv": load_glip_tsv,
    "webdataset": load_tar_shards,
}


def register_grounding_dataset(
    name: str,
    json_file: str,
    image_root: str | Mapping[str, str],
    format: str = "mdetr",
    *,
    reader_options: Mapping[str, Any] | None = None,
    **metadata: Any,
) -> None:
    """Register captions with boxes under a name; the file is read when it is first used.

    Args:
        name: for ``DatasetCatalog`` and the ``datasets`` of a configuration.
        json_file: the annotations: MDETR's json, an ODVG jsonl, the yaml of a GLIP TSV, or the
            tar shards as a pattern (``"shards/*.tar"``).
        image_root: the folder of the images, or one per ``data_source``; not used by formats
            whose containers hold the images.
        format: a key of ``GROUNDING_FORMATS``.
        reader_options: further arguments of the format's reader, for instance
            ``{"label_map": "label_map.json"}`` for ``"odvg"`` or ``{"min_score": 0.6}`` for
            ``"glip_tsv"``.
        metadata: goes into ``MetadataCatalog`` besides ``evaluator_type="grounding"``.

    Raises:
        UsageError: an unknown format, or a name that is taken.
    """
    if format not in GROUNDING_FORMATS:
        raise UsageError(
            f"unknown format {format!r} for grounding data, known: {sorted(GROUNDING_FORMATS)}"
        )
    if name in DatasetCatalog.list():
        raise UsageError(
            f"a data set named {name!r} is registered already: choose another name, or call "
            "DatasetCatalog.remove and MetadataCatalog.remove first"
        )
    load = GROUNDING_FORMATS[format]
    options = dict(reader_options or {})
    DatasetCatalog.register(name, partial(_load, load, json_file, image_root, name, **options))
    fields = {"evaluator_type": "grounding", **metadata}
    MetadataCatalog.get(name).set(json_file=json_file, image_root=image_root, **fields)


def _load(load: Callable, json_file: str, image_root: Any, name: str, **options: Any) -> Sequence:
    """The records of a format's reader; of captions that are in memory the phrases have numbers."""
    records = load(json_file, image_root, name, **options)
    if isinstance(records, list) and all("caption" in record for record in records):
        number_phrases(records, name)
    return records
