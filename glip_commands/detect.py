"""`glip detect`: see glipv2_d2/cli/detect.py."""

from typing import Any

import click

from glip_commands.command import (
    DEFAULT_MODEL,
    GIVEN,
    PackageCommand,
    input_options,
    listed,
    model_options,
    run,
)

# Of `glipv2_d2.interop`, which is not imported for a help page.
FORMATS = (
    "coco", "coco-results", "yolo", "voc", "odvg", "label-studio", "cvat", "csv", "crops",
)  # fmt: skip


@click.command(cls=PackageCommand, short_help="Find what a prompt names, in images and folders.")
@click.argument("given", nargs=-1, required=True, type=click.UNPROCESSED, metavar=GIVEN)
@model_options(default=DEFAULT_MODEL, exports=True)
@click.option(
    "--prompt",
    default="",
    help='"cat, dog", "a [kite] above a [dog]", or a file of a tuned prompt',
)
@click.option("--negatives", default="", help='what may be taken for it and is not: "fox, wolf"')
@click.option(
    "--exemplar",
    multiple=True,
    metavar="FILE:X1,Y1,X2,Y2[=NAME]",
    help="look for what is in this box, too; several of one name are one word",
)
@click.option("--exemplar-words", default="", help="names that the model was trained with")
@click.option("--kind", type=click.Choice(["auto", "classes", "caption"]), default="auto")
@click.option(
    "--phrases", default="rules", help='finds phrases: "rules", "textblob", "nltk", "spacy"'
)
@click.option("--output", required=True, help="folder for pictures and detections.json")
@click.option(
    "--format", "formats", default="", callback=listed(str, *FORMATS), metavar="NAME[,NAME]...",
    help=f"files for other programs, each in a folder of --output: {', '.join(FORMATS)}",
)  # fmt: skip
@click.option("--threshold", type=float, help="least score (default: the config's)")
@click.option(
    "--merge-iou",
    type=float,
    help="of boxes that overlap by more keep only the best phrase (default: the config's)",
)
@click.option("--batch-size", type=int, default=1)
@click.option("--device", default="auto", help='"auto", "cpu", "cuda", ...')
@click.option("--tta", is_flag=True, help="several sizes and flips per image")
@click.option(
    "--tile", type=click.IntRange(min=32), metavar="PIXELS", help="show larger images in tiles, too"
)
@input_options
def detect(**options: Any) -> int:
    """Find what a prompt names, in images and folders, and draw it.

    \b
    glip detect photo.jpg --prompt "red star, blue ring" --output out
    glip detect photo.jpg --model glip_t --prompt "cat, dog" --output out
    glip detect photo.jpg --config-file my_config.py --weights my.safetensors \\
        --prompt "cat, dog" --output out

    Without a model it is the demo's, which knows colored shapes and nothing else.

    Images are files, folders with all in them, patterns ("photos/**/*.jpg"), zip and tar files, and
    addresses ("https://..."); what else lies in a folder or an archive is listed. Videos are files,
    addresses, and a camera ("camera:0", until Ctrl-C). See docs/inputs.md. KEY=VALUE sets a value
    of the config (model.prompt_batch_size=4; inference.shortlist=40 for hundreds of names, see
    docs/shortlist.md).

    How --prompt is read (--kind overrides it): with [brackets] it is a caption and the brackets
    mark its phrases, "a [red kite] above a [dog]"; names between commas, semicolons, stops or line
    ends, and a name alone, are classes as they are written, "trash can, dog"; a sentence is a
    caption whose noun phrases are found, "a man riding a horse". Between commas and semicolons the
    semicolons separate classes and the commas words for one class, "cat, kitten; dog". A name that
    ends in .safetensors is the file of a tuned prompt, which `glip train --mode prompt` leaves.

    A box that a name of --negatives describes better than the prompt does is left out. An
    --exemplar is a box of pixels in one image, whose content is sought in all others; it needs a
    model with the projections of the contrastive loss.

    Written are a picture with labeled boxes per image, and in the end detections.json:

    \b
    {"prompt": ..., "negatives": ..., "exemplars": [...], "kind": ...,
     "names": ["red star", ...], "threshold": ...,
     "config": ..., "weights": ...,
     "images": [{"file": ..., "height": ..., "width": ..., "picture": ...,
                 "detections": 3}],
     "detections": [{"file": ..., "phrase": ..., "class_id": ..., "score": ...,
                     "box": [x1, y1, x2, y2],
                     "mask": {"size": [h, w], "counts": ...}}],
     "failed": [{"file": ..., "error": ...}],
     "skipped": ["files of the folders that are no images", ...]}

    "mask" (COCO's run-length code) is there for models with a mask head. An image whose picture
    alone could not be written is in "images", with "picture": null, and in "failed".

    Of a video a video with boxes is written, and NAME.frames.jsonl, a line of json per frame; its
    record is in "videos" of detections.json. --track gives each object a number ("track").

    With --format the detections are labels of other programs, too: out/yolo is a data set to train
    on, out/label-studio is imported for correction, ... (docs/outputs.md). A folder of an earlier
    run is replaced, unless a file in it was changed after detections.json was written.

    Until then the results stand in detections.jsonl, a line per image, written as they come. The
    same command goes on after a run that was killed, and tries the images that failed again; with
    another prompt, threshold, model or the like, and for an image that has changed, it begins
    anew. The file is removed in the end, unless an image failed or it has images that were not
    asked for now.

    The exit status is 0 when every image was read, 1 when some were not, 2 when nothing could be
    done, 130 when somebody stopped it (Ctrl-C).
    """
    return run("detect", options)
