"""`glip index`: embed the regions of a collection, and keep what has not changed."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module

from ..engine.region_embedding import RegionEmbedder, Regions
from ..engine.region_search import region_embedder
from ..errors import DataError, UsageError, printable
from ..images import read_image
from ..search.store import ImageRegions, RegionStore
from ..sources import ARCHIVES, is_address, stamp
from .detection.command import find_given, refuse_file_of_names, stoppable, typed
from .detection.images import each_or_why, one_line


@stoppable
def run(args: argparse.Namespace) -> int:
    """Index."""
    given = find_given(args)
    inputs = given.inputs
    if inputs.videos:
        raise UsageError(
            f"'{inputs.videos[0]}' is a video, and an index has images: write its frames as images"
        )
    refuse_file_of_names("--prompt", args.prompt)
    import_module("faiss")  # is refused now, not at the end
    made_by = {
        "config": _lasting(args.config_file),
        "weights": _lasting(args.weights),
        "overrides": given.overrides,
        "prompt": typed(args.prompt),
    }
    embedder = region_embedder(made_by, device=args.device, batch_size=args.batch_size)
    files = [file if is_address(file) else os.path.abspath(file) for file in inputs.files]
    kept_in = embedder.fingerprint, embedder.dim, made_by
    with RegionStore.for_writing(args.output, *kept_in) as store:
        before = store.stamps()
        gone = sorted({*_within(before, args.given)} - {*files})
        store.remove(gone)
        left = [file for file in files if file not in before or before[file] != stamp(file)]
        failed = _embed(store, embedder, left, set(before), args.batch_size)
        store.build()
        images, regions = store.counts()
    changed = sum(file in before and file not in failed for file in left)
    new = len(left) - len(failed) - changed
    print(
        f"{args.output}: {images} images with {regions} regions; {new} new, {changed} changed, "
        f"{len(gone)} gone, {len(failed)} failed, {len(inputs.skipped)} skipped, no images by "
        "their names"
    )
    if failed:
        names = ", ".join(failed)
        print(f"failed (the same command tries them again): {names}", file=sys.stderr)
    return 1 if failed else 0


def _lasting(file: str) -> str:
    """A name that means the same in another folder."""
    return os.path.abspath(file) if os.path.isfile(file) else file


def _within(files: Iterable[str], given: Sequence[str]) -> list[str]:
    """Those of an index that lie in a folder or an archive that is given."""
    folders = [os.path.join(os.path.abspath(text), "") for text in given if os.path.isdir(text)]
    archives = [os.path.abspath(t) + "!" for t in given if t.lower().endswith(ARCHIVES)]
    return [file for file in files if file.startswith((*folders, *archives))]


def _embed(
    store: RegionStore,
    embedder: RegionEmbedder,
    files: Sequence[str],
    before: set[str],
    batch_size: int,
) -> dict[str, str]:
    """Embed images, batch by batch; returns those that failed, and why.

    What was known of a file that has changed and cannot be read now is forgotten.

    Args:
        before: the files that the store has.
    """
    failed: dict[str, str] = {}
    regions = 0
    for start in range(0, len(files), batch_size):
        batch, problems = _embedded(embedder, files[start : start + batch_size])
        store.add(batch)
        store.remove(before & problems.keys())
        failed |= problems
        regions += sum(len(image.boxes) for image in batch)
        for file, problem in problems.items():
            print(f"failed: {file}: {problem}", file=sys.stderr, flush=True)
        done = min(start + batch_size, len(files))
        print(f"[{done}/{len(files)}] {regions} regions, {len(failed)} images failed", flush=True)
    return failed


def _embedded(
    embedder: RegionEmbedder, files: Sequence[str]
) -> tuple[list[ImageRegions], dict[str, str]]:
    read, failed = [], {}
    for file in files:
        try:
            if printable(file) != file:
                raise DataError("its name is no text in UTF-8: rename it")
            # The stamp first: what changes meanwhile is another one the next time.
            read.append((file, stamp(file), read_image(file)))
        except Exception as error:  # of a hundred decoders
            failed[file] = one_line(error)
    images = []
    found = each_or_why(embedder.embed_regions, [pixels for *_, pixels in read]) if read else []
    for (file, seen, pixels), regions in zip(read, found):
        if isinstance(regions, str):
            failed[file] = regions
        else:
            images.append(_record(file, seen, pixels.shape, regions))
    return images, failed


def _record(
    file: str, seen: list[int] | None, shape: Sequence[int], regions: Regions
) -> ImageRegions:
    boxes, embeddings, scores = regions
    return ImageRegions(file, seen, shape[0], shape[1], boxes, scores, embeddings)
