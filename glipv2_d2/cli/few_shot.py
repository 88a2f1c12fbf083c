"""`glip few-shot`: transfer to one's own data by few images of each class, many times."""

from __future__ import annotations

import argparse
import runpy
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..data import load_records, register_detection_dataset
from ..data.datasets.detection_formats import export_splits
from ..data.entries import short
from ..data.few_shot import few_shot_records, few_shot_split, write_detection_json
from ..data.report import Record
from ..engine.evaluate import missing_files
from ..errors import DataError, UsageError
from ..files import whole_file
from ..language.class_names import detection_classes
from .sweep.plan import ALL, SweepData, plan_runs
from .sweep.report import Heading
from .sweep.running import size_and_time
from .sweep.sweep import available_runs, check_identity, run_all, settings_of


class Files(NamedTuple):
    """Arguments of `register_detection_dataset`."""

    path: str
    image_root: str | None
    split: str | None = None


def run(args: argparse.Namespace) -> int:
    """Make the subsets, and run the sweep or what is left of it.

    Raises:
        UsageError: two tasks of one name, or one that is no name of a folder.
        ConfigError: a folder of another sweep.
        DataError: data that are not there, or whose classes differ.
        RunFailed: a run ended with an error.
    """
    for file in args.register:
        runpy.run_path(file)
    names = [name for name, *_ in args.data]
    if len(set(names)) < len(names):
        raise UsageError(f"--data: each task has a name of its own; given: {', '.join(names)}")
    files: dict[str, Files] = {}
    data = [_task(entry, args.images, files) for entry in args.data]
    for name in args.old:
        _classes(name)
    for name in args.replay:
        _require(name)
    own = args.output / "data_sets.py"
    settings = settings_of(
        args,
        old=args.old,
        replay=args.replay,
        alphas=args.merge,
        data=_sizes_and_times([s for entry in data for s in entry.whole], args.old),
        register=(*args.register, str(own.resolve())),
    )
    check_identity(settings)
    runs = plan_runs(data, args.shots, args.seeds, args.modes)
    shots = [int(word) for word in dict.fromkeys(args.shots) if word not in ("0", ALL)]
    for entry in data:
        files.update(_write_subsets(entry, shots, args.seeds, args.output / "data"))
    _register(files, own)
    runs = available_runs(runs, allow_missing=False)
    if args.only_files:
        print("\n".join(f"{each.setting} {each.dataset}" for each in runs))
        return 0
    columns, model = {name: name for name in names}, Path(settings.config).stem
    heading = Heading("few-shot", columns, model, args.metric, ("test", "val", *args.old))
    run_all(runs, settings, heading)
    return 0


def _task(entry: Sequence[str], images: str | None, files: dict[str, Files]) -> SweepData:
    """The data sets of one `--data`; files are registered, and put into `files`.

    Raises:
        UsageError: no name of a folder.
        DataError: no such data, or classes that differ.
    """
    name, *places = entry
    if not name or Path(name).name != name:
        raise UsageError(f"--data {name!r}: the name of a task is that of a folder, without '/'")
    sets = []
    for split, place in zip(("train", "val", "test"), places):
        if place not in DatasetCatalog.list():
            if not Path(place).exists():
                raise DataError(
                    f"there is neither a data set nor a file '{place}': give annotations, or "
                    "register the data set in a file and give that with --register"
                )
            own = split if split in export_splits(place) else None
            root = None if images is None else str(Path(images).resolve())
            place, file = f"{name}_{split}", str(Path(place).resolve())
            files[place] = Files(file, root, own)
            register_detection_dataset(place, file, root, split=own)
        sets.append(place)
    first = list(_classes(sets[0]))
    for other in sets[1:]:
        if first != (theirs := list(_classes(other))):
            raise DataError(
                f"the data sets of {name!r} have other classes: {short(first, 80)} in {sets[0]!r}, "
                f"{short(theirs, 80)} in {other!r}; they must be the same in the same order"
            )
    return SweepData(name, name, "val", *sets)


def _require(name: str) -> None:
    """Raise a DataError where a data set is not registered, or not on the disk."""
    if name not in DatasetCatalog.list():
        raise DataError(f"there is no data set {name!r}: register it in a file, --register FILE.py")
    if missing := missing_files([name]):
        raise DataError(f"{name!r} is not on the disk: there is no {missing[name]}")


def _classes(name: str) -> Sequence[str]:
    _require(name)
    classes = detection_classes(name, read=True)
    if not classes:
        raise DataError(f"{name!r} has no classes: few-shot runs are on detection data sets")
    return classes


def _sizes_and_times(*names: Iterable[str]) -> dict[str, list[int]]:
    paths = {MetadataCatalog.get(name).get("json_file") for of in names for name in of}
    return {path: size_and_time(Path(path)) for path in sorted(filter(None, paths))}


def _write_subsets(
    data: SweepData, shots: Sequence[int], seeds: Sequence[int], folder: Path
) -> dict[str, Files]:
    """Write the subsets of a task; what is drawn depends on data and seed alone, so that a sweep
    that is taken up again finds the same.

    Returns:
        Of each its name and files.
    """
    files: dict[str, Files] = {}
    for base, name in (("train", data.train), ("val", data.val)) if shots else ():
        records = load_records(name)
        images = str(Path(MetadataCatalog.get(name).get("image_root") or "").resolve())
        _tell_rare(name, records, max(shots))
        for count in shots:
            subsets = {seed: few_shot_records(records, count, seed) for seed in seeds}
            for seed, subset in subsets.items():
                path = folder / data.name / f"{few_shot_split(base, count, seed)}.json"
                write_detection_json(path, name, subset)
                files[data.few_shot(base, count, seed)] = Files(str(path.resolve()), images)
            sizes = ", ".join(str(len(subset)) for subset in subsets.values())
            print(f"{name}, {count} of each class: {sizes} images", flush=True)
    return files


def _tell_rare(name: str, records: Sequence[Record], shots: int) -> None:
    """Say which classes have fewer images than are asked for."""
    images: Counter[int] = Counter()
    for record in records:
        images.update({a["category_id"] for a in record.get("annotations", ())})
    few = {c: images[i] for i, c in enumerate(_classes(name)) if images[i] < shots}
    if few:
        listed = ", ".join(f"{c} ({number})" for c, number in few.items())
        print(f"{name}: fewer than {shots} images have: {listed}")


def _register(files: Mapping[str, Files], target: Path) -> None:
    """Register data sets, here and, by a Python file, in every `glip train` of the sweep."""
    lines = [
        f"register_detection_dataset({name!r}, {path!r}, {root!r}, split={split!r})\n"
        for name, (path, root, split) in files.items()
    ]
    head = '"""Written by `glip few-shot`: the data sets of this sweep."""\n\n'
    head += "from glipv2_d2.data import register_detection_dataset\n\n"
    with whole_file(target, "w") as file:
        file.write(head + "".join(lines))
    runpy.run_path(str(target))
