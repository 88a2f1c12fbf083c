"""`glip inspect`: see glipv2_d2/cli/inspect.py."""

from pathlib import Path
from typing import Any

import click

from glip_commands.command import PackageCommand, run


@click.command(cls=PackageCommand, short_help="Check and show a data set before training on it.")
@click.argument("name", required=False, metavar="NAME|PATH")
@click.option("--register", metavar="FILE.py", help="run it first: it registers NAME")
@click.option("--json", hidden=True, help="PATH, as it was given in 0.1")
@click.option("--images", help="image folder of PATH (default: beside the annotations)")
@click.option("--format", help="format of PATH: coco, yolo, voc, mdetr, ... (default: it is told)")
@click.option(
    "--split", type=click.Choice(["train", "val", "test"]), help="of a PATH that has several"
)
@click.option(
    "--against", metavar="NAME|PATH", help="a data set that must not have the same images"
)
@click.option(
    "--changes-from", metavar="NAME|PATH", help="other labels of the same captions, to compare with"
)
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="of the format's reader, e.g. label_map=label_map.json or min_score=0.6",
)
@click.option("--output", type=click.Path(path_type=Path), help="folder for pictures and the text")
@click.option("--samples", type=click.IntRange(min=0), default=8, help="records that are drawn")
@click.option("--seed", type=int, default=0, help="of the choice of samples")
@click.option("--tokenizer", default="minilm", help="'minilm', a folder or a hub name")
@click.option("--max-tokens", type=click.IntRange(min=1), default=256)
@click.option(
    "--chunk-size", type=click.IntRange(min=1), help="class names in a test prompt, e.g. 40"
)
@click.option(
    "--negative-captions", type=click.IntRange(min=0), default=0, help="of a training prompt"
)
@click.option(
    "--max-records", type=click.IntRange(min=1), help="look at so many records, evenly spread"
)
@click.option("--check-images", is_flag=True, help="read the header of every image too")
def inspect(**options: Any) -> int:
    """Check and show a data set before training on it.

    \b
    glip inspect coco_2017_val --output output/inspect
    glip inspect my_train --register my_config.py --output output/inspect
    glip inspect export/data.yaml --split val --against export/data.yaml
    glip inspect captions.json --images images --format mdetr

    PATH is the file or the unpacked folder of an export: COCO json, YOLO, Pascal VOC, ODVG, and
    those of Roboflow, CVAT (for images), Label Studio (JSON, JSON-MIN) and labelme; with --format
    also one of captions.

    It reads and checks every record (fields, boxes inside their image, spans inside their caption,
    files that exist), counts, draws samples with the phrases in the colors of their boxes, and
    prints the prompts with the tokens of each phrase as the model gets them in training and in
    tests. Of captions it also tells how many have no box, their phrases and, of pseudo labels, the
    scores, with histograms and a table in the folder of --output; --changes-from tells the boxes
    that were gained, lost and moved. The exit status is 0 if all is well, 1 if something had to be
    left out or is doubtful, 2 if nothing can be read.
    """
    return run("inspect", options)
