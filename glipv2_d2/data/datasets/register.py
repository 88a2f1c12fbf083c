"""A user's own data sets in Detectron2's catalogs: captions, questions, and COCO json."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from detectron2.data import MetadataCatalog
from fvcore.common.registry import Registry

from ...errors import DataError, UsageError
from ..reader import Reader, of_several_files
from .absent_names import load_absent_names, load_saco_json
from .coco_captions import load_coco_captions, load_karpathy_json
from .coco_like import load_coco_style_json
from .glip_tsv import GlipTsvRecords
from .gqa import load_gqa_json
from .mdetr import load_mdetr_images, load_mdetr_json
from .odvg import load_odvg
from .snli_ve import load_snli_ve
from .tar_shards import TarRecords
from .vqa import load_vqa_json

Load = TypeVar("Load", bound=Callable[..., Sequence[Any]])


class FormatRegistry(Registry):
    """fvcore's registry, with the names under which users ask for a format."""

    def register(self, name: str) -> Callable[[Load], Load]:
        """A decorator for the reader of the format `name`.

        The reader takes `path, image_root, dataset_name`, the `report` that it tells what it leaves
        out, and the `reader_options`, the last two by name. It returns records: a list, or a
        `RecordIndex` where the data set is too large for one.
        """

        def add(load: Load) -> Load:
            self._do_register(name, load)
            return load

        return add


GROUNDING_FORMATS = FormatRegistry("grounding data format")
GROUNDING_FORMATS.register("mdetr")(load_mdetr_json)
GROUNDING_FORMATS.register("mdetr_images")(load_mdetr_images)
GROUNDING_FORMATS.register("odvg")(of_several_files(load_odvg))
GROUNDING_FORMATS.register("glip_tsv")(of_several_files(GlipTsvRecords))
GROUNDING_FORMATS.register("webdataset")(TarRecords)
GROUNDING_FORMATS.register("vqa")(load_vqa_json)
GROUNDING_FORMATS.register("gqa")(load_gqa_json)
GROUNDING_FORMATS.register("snli_ve")(load_snli_ve)
GROUNDING_FORMATS.register("coco_captions")(load_coco_captions)
GROUNDING_FORMATS.register("karpathy")(load_karpathy_json)
GROUNDING_FORMATS.register("absent_names")(load_absent_names)
GROUNDING_FORMATS.register("saco")(load_saco_json)


def register_grounding_dataset(
    name: str,
    json_file: str,
    image_root: str | Mapping[str, str],
    format: str = "mdetr",
    *,
    reader_options: Mapping[str, Any] | None = None,
    **metadata: Any,
) -> None:
    """Register captions or questions under a name; the file is read when it is first used.

    The same once more changes nothing, so that a config which registers its data may be loaded
    several times in a process.

    Args:
        name: for `DatasetCatalog` and the `datasets` of a configuration.
        json_file: the annotations: MDETR's json, an ODVG jsonl, the yaml of a GLIP TSV, the tar
            shards; of these three several as a pattern (`"shards/*.tar"`); COCO's or Karpathy's
            captions, or a file of questions.
        image_root: the folder of the images, or one per `data_source`; not used by formats
            whose containers hold the images.
        format: a key of `GROUNDING_FORMATS`.
        reader_options: further arguments of the format's reader, for instance `{"label_map":
            "label_map.json"}` for `"odvg"` or `{"min_score": 0.6}` for `"glip_tsv"`.
        metadata: goes into `MetadataCatalog` besides `evaluator_type="grounding"`.

    Raises:
        UsageError: an unknown format.
        DataError: the name is registered with other arguments; the message has both.
    """
    if format not in GROUNDING_FORMATS:
        raise UsageError(
            f"unknown format {format!r} for grounding data, known: "
            f"{sorted(name for name, _ in GROUNDING_FORMATS)}"
        )
    load = GROUNDING_FORMATS.get(format)
    fields = {"evaluator_type": "grounding", "format": format, **metadata}
    register_reader(name, load, json_file, image_root, reader_options, fields)


def register_coco_dataset(
    name: str,
    json_file: str,
    image_root: str,
    *,
    reader_options: Mapping[str, Any] | None = None,
    **metadata: Any,
) -> None:
    """Register a COCO json under a name, as Detectron2's `register_coco_instances` does.

    Unlike there, the same once more changes nothing, so that a config which registers its data may
    be loaded several times in a process.

    Args:
        name: for `DatasetCatalog`, the `datasets` of a configuration and its test set.
        json_file: the annotations.
        image_root: the folder of the images.
        reader_options: further arguments of `load_coco_style_json`.
        metadata: goes into `MetadataCatalog` besides `evaluator_type="coco"`.

    Raises:
        DataError: the name is registered with other arguments; the message has both.
    """
    fields = {"evaluator_type": "coco", **metadata}
    register_reader(name, load_coco_style_json, json_file, image_root, reader_options, fields)


def register_reader(
    name: str,
    load: Callable[..., Sequence[Any]],
    json_file: str,
    image_root: str | Mapping[str, str],
    reader_options: Mapping[str, Any] | None,
    fields: dict[str, Any],
) -> None:
    """Register a data set; one of this name must have the same fields in its metadata."""
    options = dict(reader_options or {})
    fields["reader_options"] = options
    Reader(load, json_file, image_root, name, **options).register(**fields)
    fields = {"json_file": json_file, "image_root": image_root, **fields}
    known = {key: MetadataCatalog.get(name).get(key) for key in fields}
    differing = [key for key, value in fields.items() if known[key] != value]
    if differing:
        old, new = (
            ", ".join(f"{key}={values[key]!r}" for key in differing) for values in (known, fields)
        )
        raise DataError(
            f"a data set named {name!r} is registered already, with {old}, and now with {new}: "
            "choose another name, or call DatasetCatalog.remove and MetadataCatalog.remove first"
        )
