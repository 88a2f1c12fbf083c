"""`glip detect`: see glipv2_d2/cli/detect.py."""

from typing import Any

import click

from glip_commands.command import DEFAULT_MODEL, PackageCommand, model_options, run


@click.command(cls=PackageCommand, short_help="Find what a prompt names, in images and folders.")
@click.argument(
    "given", nargs=-1, required=True, type=click.UNPROCESSED, metavar="IMAGE|FOLDER|URL|KEY=VALUE"
)  # fmt: skip
@model_options(default=DEFAULT_MODEL)
@click.option(
    "--prompt",
    required=True,
    help='"cat, dog", "a [kite] above a [dog]", or a file of a tuned prompt',
)
@click.option("--kind", type=click.Choice(["auto", "classes", "caption"]), default="auto")
@click.option("--phrases", default="rules", help='finds phrases: "rules", "nltk", "spacy", ...')
@click.option("--output", required=True, help="folder for pictures and detections.json")
@click.option("--threshold", type=float, help="least score (default: the config's)")
@click.option(
    "--merge-iou",
    type=float,
    help="of boxes that overlap by more keep only the best phrase (default: the config's)",
)
@click.option("--batch-size", type=int, default=1)
@click.option("--device", default="auto", help='"auto", "cpu", "cuda", ...')
@click.option("--tta", is_flag=True, help="several sizes and flips per image")
def detect(**options: Any) -> int:
    """Find what a prompt names, in images and folders, and draw it.

    \b
    glip detect photo.jpg --prompt "red star, blue ring" --output out
    glip detect photo.jpg --model glip_t --prompt "cat, dog" --output out
    glip detect photo.jpg --config-file my_config.py --weights my.pth \\
        --prompt "cat, dog" --output out

    Without a model it is the demo's, which knows colored shapes and nothing else.

    Images are files, folders (every format that the reader of images reads; what else lies there
    is listed), and addresses ("https://..."). KEY=VALUE sets a value of the config
    (model.prompt_batch_size=4).

    How --prompt is read (--kind overrides it): with [brackets] it is a caption and the brackets
    mark its phrases, "a [red kite] above a [dog]"; names between commas, semicolons, stops or line
    ends, and a name alone, are classes as they are written, "trash can, dog"; a sentence is a
    caption whose noun phrases are found, "a man riding a horse". A name that ends in .safetensors
    is the file of a tuned prompt, which `glip train --mode prompt` leaves.

    Written are a picture with labeled boxes per image, and in the end detections.json:

    \b
    {"prompt": ..., "kind": ..., "threshold": ..., "config": ..., "weights": ...,
     "images": [{"file": ..., "height": ..., "width": ..., "picture": ...,
                 "detections": 3}],
     "detections": [{"file": ..., "phrase": ..., "class_id": ..., "score": ...,
                     "box": [x1, y1, x2, y2],
                     "mask": {"size": [h, w], "counts": ...}}],
     "failed": [{"file": ..., "error": ...}],
     "skipped": ["files of the folders that are no images", ...]}

    "mask" (COCO's run-length code) is there for models with a mask head. An image whose picture
    alone could not be written is in "images", with "picture": null, and in "failed".

    Until then the results stand in detections.jsonl, a line per image, written as they come. The
    same command goes on after a run that was killed, and tries the images that failed again; with
    another prompt, threshold, model or the like, and for an image that has changed, it begins
    anew. The file is removed in the end, unless an image failed or it has images that were not
    asked for now.

    The exit status is 0 when every image was read, 1 when some were not, 2 when nothing could be
    done, 130 when somebody stopped it (Ctrl-C).
    """
    return run("detect", options)
