"""Detect what a prompt names in a photo or a folder of them, from the command line.

    python tools/detect.py photo.jpg --config-file demo/scenes.py \\
        --weights weights/glip_scenes.safetensors --prompt "red star, blue ring" --output out

How ``--prompt`` is read (``--kind`` overrides it):

* with [brackets] it is a caption and the brackets mark its phrases: "a [red kite] above a [dog]";
* else, with a comma, it is a list of classes: "cat, dog";
* else it is a caption whose noun phrases are found: "a man riding a horse", and also "cat".

Written are a picture with labelled boxes per image, and ``detections.json``::

    {"prompt": ..., "kind": ..., "threshold": ..., "config": ..., "weights": ...,
     "images": [{"file": ..., "height": ..., "width": ..., "picture": ..., "detections": 3}],
     "detections": [{"file": ..., "phrase": ..., "class_id": ..., "score": ...,
                     "box": [x1, y1, x2, y2], "mask": {"size": [h, w], "counts": ...}}],
     "failed": [{"file": ..., "error": ...}]}

``mask`` (COCO's run-length code) is there for models with a mask head. The exit status is 0 when
every image was read, 1 when some were not, 2 when nothing could be done.
"""

import argparse
import colorsys
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from detectron2.structures import Instances
from PIL import Image
from pycocotools import mask as coco_mask

from glipv2_d2.data.images import read_image
from glipv2_d2.data.phrases import prompt_from_text
from glipv2_d2.engine.predictor import GroundingPredictor
from glipv2_d2.errors import UsageError, command
from glipv2_d2.structures import Prompt, PromptError

__all__ = ["IMAGE_SUFFIXES", "detect", "draw", "list_images", "main", "parse_prompt"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def parse_prompt(
    text: str, kind: str = "auto", phrases: str = "rules"
) -> list[str] | Prompt:
    """Read a prompt from the command line (the rules are in this module's description).

    Args:
        text: the prompt.
        kind: "auto", "classes" or "caption".
        phrases: back end that finds the phrases of a caption without brackets.

    Returns:
        Class names, or the Prompt of a caption.

    Raises:
        PromptError: nothing is left of it, or no phrase is found in it.
    """
    if not text.strip():
        raise PromptError('The prompt is empty. Give classes ("cat, dog") or a caption.')
    is_caption = kind == "caption" or (kind == "auto" and ("[" in text or "," not in text))
    if is_caption:
        return prompt_from_text(text, phrases)
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise PromptError(f'There is no class name in the prompt "{text}".')
    return names


def list_images(path: str | Path) -> list[Path]:
    """The image files that a path means: itself, or those of a folder by name.

    Raises:
        UsageError: nothing is there, or the folder holds no image.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UsageError(f"There is no image or folder '{path}'.")
    found = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if not found:
        raise UsageError(f"The folder '{path}' holds no image ({', '.join(IMAGE_SUFFIXES)}).")
    return found


def detect(
    predictor: GroundingPredictor,
    files: Sequence[Path],
    prompt: list[str] | Prompt,
    output: str | Path,
) -> dict:
    """Detect in image files, write a picture for each, and collect the results.

    A file that cannot be read is reported and counted, and the rest goes on.

    Args:
        predictor: the model, with its batch size and threshold.
        files: the images.
        prompt: class names or a Prompt.
        output: folder for the pictures; created.

    Returns:
        The ``images``, ``detections`` and ``failed`` of this module's JSON.

    Raises:
        UsageError: the pictures would go where the images are.
    """
    output = Path(output)
    pictures = _picture_paths(files, output)
    output.mkdir(parents=True, exist_ok=True)
    report = {"images": [], "detections": [], "failed": []}
    for start in range(0, len(files), predictor.batch_size):
        batch = _read_batch(files[start : start + predictor.batch_size], report["failed"])
        results = predictor([pixels for _, pixels in batch], prompt) if batch else []
        for (file, pixels), instances in zip(batch, results):
            Image.fromarray(draw(pixels, instances)).save(pictures[file], quality=92)
            report["detections"] += _records(file, instances)
            report["images"].append(_image_record(file, pixels, pictures[file], instances))
        done = min(start + predictor.batch_size, len(files))
        print(
            f"[{done}/{len(files)}] {len(report['detections'])} detections, "
            f"{len(report['failed'])} images failed",
            flush=True,
        )
    return report


def draw(pixels: np.ndarray, instances: Instances) -> np.ndarray:
    """Draw boxes, phrases, scores and masks with Detectron2's Visualizer.

    Args:
        pixels: (H, W, 3) uint8, BGR.
        instances: with ``pred_boxes``, ``scores``, ``pred_phrases`` and maybe ``pred_masks``.

    Returns:
        (H, W, 3) uint8, RGB, enlarged where the image is too small for letters.
    """
    from detectron2.utils.visualizer import Visualizer

    scale = max(1.0, 640 / max(pixels.shape[:2]))
    visualizer = Visualizer(pixels[:, :, ::-1], scale=scale)
    scores = instances.scores.tolist()
    names = list(instances.pred_phrases)
    drawn = visualizer.overlay_instances(
        boxes=instances.pred_boxes,
        labels=[f"{name} {score:.0%}" for name, score in zip(names, scores)],
        masks=instances.pred_masks.numpy() if instances.has("pred_masks") else None,
        assigned_colors=[_bright_color(i) for i in instances.pred_classes.tolist()],
    )
    return drawn.get_image()


def _bright_color(class_id: int) -> tuple[float, float, float]:
    """The colour of a class: readable as text on black, and another one for its neighbours."""
    return colorsys.hsv_to_rgb(class_id * 0.618034 % 1.0, 0.6, 1.0)


def _read_batch(files: Sequence[Path], failed: list[dict]) -> list[tuple[Path, np.ndarray]]:
    batch = []
    for file in files:
        try:
            batch.append((file, read_image(file)))
        except (OSError, ValueError) as error:
            failed.append({"file": str(file), "error": str(error)})
            print(f"cannot read {file}: {error}", file=sys.stderr, flush=True)
    return batch


def _picture_paths(files: Sequence[Path], output: Path) -> dict[Path, Path]:
    """A picture's name is its image's, as .jpg.

    Two images of one stem keep their suffix in it, two of one name (of other folders) get numbers.
    """
    stems = Counter(file.stem for file in files)
    paths, taken = {}, Counter()
    for file in dict.fromkeys(files):
        stem = file.stem if stems[file.stem] == 1 else file.name.replace(".", "_")
        taken[stem] += 1
        paths[file] = output / (f"{stem}.jpg" if taken[stem] == 1 else f"{stem}_{taken[stem]}.jpg")
        if output.resolve() == file.parent.resolve():
            raise UsageError(
                f"Pictures in '{output}', where '{file.name}' is, could overwrite images there: "
                "give another --output."
            )
    return paths


def _image_record(file: Path, pixels: np.ndarray, picture: Path, instances: Instances) -> dict:
    return {
        "file": str(file),
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "picture": picture.name,
        "detections": len(instances),
    }


def _records(file: Path, instances: Instances) -> list[dict]:
    masks = instances.pred_masks.numpy() if instances.has("pred_masks") else None
    records = []
    for i, box in enumerate(instances.pred_boxes.tensor.tolist()):
        record = {
            "file": str(file),
            "phrase": instances.pred_phrases[i],
            "class_id": int(instances.pred_classes[i]),
            "score": round(float(instances.scores[i]), 4),
            "box": [round(value, 2) for value in box],
        }
        if masks is not None:
            code = coco_mask.encode(np.asfortranarray(masks[i].astype(np.uint8)))
            record["mask"] = {"size": list(code["size"]), "counts": code["counts"].decode()}
        records.append(record)
    return records


def _argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "input",
        nargs="+",
        metavar="IMAGE|FOLDER|KEY=VALUE",
        help="images, folders of images, and values for the config (model.prompt_batch_size=4)",
    )
    parser.add_argument("--config-file", required=True, help="path, or name of a shipped config")
    parser.add_argument("--weights", required=True, help=".safetensors or .pth, official GLIP too")
    parser.add_argument("--prompt", required=True, help='"cat, dog" or "a [kite] above a [dog]"')
    parser.add_argument("--kind", choices=("auto", "classes", "caption"), default="auto")
    parser.add_argument("--phrases", default="rules", help='"rules", "nltk", "spacy", ...')
    parser.add_argument("--output", required=True, help="folder for pictures and detections.json")
    parser.add_argument("--threshold", type=float, help="least score (default: the config's)")
    parser.add_argument(
        "--merge-iou",
        type=float,
        help="of boxes that overlap by more keep only the best phrase (default: the config's)",
    )
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--device", default="auto", help='"auto", "cpu", "cuda", ...')
    parser.add_argument("--tta", action="store_true", help="several sizes and flips per image")
    return parser


def _inputs_and_overrides(given: Sequence[str]) -> tuple[list[str], list[str]]:
    """Files apart from ``key=value``; a file may have "=" in its name."""
    overrides = [text for text in given if "=" in text and not Path(text).exists()]
    inputs = [text for text in given if text not in overrides]
    if not inputs:
        raise UsageError(f"No image is given, only values for the config: {' '.join(overrides)}.")
    return inputs, overrides


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = _argument_parser().parse_intermixed_args(argv)
    inputs, overrides = _inputs_and_overrides(args.input)
    files = [file for given in inputs for file in list_images(given)]
    prompt = parse_prompt(args.prompt, args.kind, args.phrases)
    if args.threshold is not None and not 0 <= args.threshold <= 1:
        raise UsageError(f"--threshold must lie in [0, 1], got {args.threshold}.")
    if args.merge_iou is not None and not 0 < args.merge_iou <= 1:
        raise UsageError(f"--merge-iou must lie in (0, 1], got {args.merge_iou}.")
    predictor = GroundingPredictor.from_config(
        args.config_file,
        args.weights,
        device=args.device,
        batch_size=args.batch_size,
        score_threshold=args.threshold,
        overrides=overrides,
    )
    if args.merge_iou is not None:
        predictor.merge_iou = args.merge_iou
    if args.tta:
        predictor.use_test_time_augmentation()
    report = detect(predictor, files, prompt, args.output)
    head = {
        "prompt": args.prompt,
        "kind": prompt.kind if isinstance(prompt, Prompt) else "classes",
        "threshold": predictor.score_threshold,
        "config": args.config_file,
        "weights": args.weights,
    }
    path = Path(args.output) / "detections.json"
    path.write_text(json.dumps({**head, **report}, indent=1), encoding="utf-8")
    print(f"wrote {len(report['images'])} pictures and {path}")
    if report["failed"]:
        names = ", ".join(entry["file"] for entry in report["failed"])
        print(f"{len(report['failed'])} of {len(files)} images failed: {names}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
