"""`glip label`: see glipv2_d2/cli/label.py."""

from pathlib import Path
from typing import Any

import click

from glip_commands.command import PackageCommand, listed, model_options, run

# Of `glipv2_d2.labeling.writers`.
FORMATS = ("tsv", "tsv2", "odvg", "webdataset")


@click.command(cls=PackageCommand, short_help="Find boxes for image-text pairs or questions.")
@click.argument("given", nargs=-1, required=True, type=click.UNPROCESSED,
                metavar="SHARDS...|NAME [KEY=VALUE]...")  # fmt: skip
@model_options(exports=True)
@click.option("--output", type=click.Path(path_type=Path), required=True,
              help="a folder; of questions a .json file")  # fmt: skip
@click.option("--format", type=click.Choice(FORMATS), help="of the labels of pairs")
@click.option("--threshold", type=float, help="least score of a box (default: 0.1; questions 0.5)")
@click.option(
    "--phrases", default="rules", help='finds phrases: "rules", "textblob", "nltk", "spacy"'
)
@click.option("--recaption", is_flag=True, help="the model writes the captions of pairs")
@click.option("--columns", callback=listed(str), default="", metavar="IMAGE,CAPTION",
              help="of a table of pairs (default: path,caption)")  # fmt: skip
@click.option("--image-root", metavar="FOLDER", help="of the paths (default: that of the table)")
@click.option("--rows", type=click.IntRange(min=1), help="of a table per shard (default: 1000)")
@click.option("--processes", type=click.IntRange(min=1), help="each with the model (default: 1)")
@click.option("--ray", is_flag=True, help="they are workers on the machines of a Ray cluster")
@click.option("--register", metavar="FILE.py", help="run it first: it registers NAME")
@click.option("--batch-size", type=int, default=1, help="images at once")
@click.option("--device", default="auto", help='"auto", "cpu", "cuda", ...')
def label(**options: Any) -> int:
    """Find boxes for what texts name, by a trained model, to train on them.

    \b
    glip label 'pairs/*.tar' --model glip_t --format webdataset --output labels
    glip label pairs.csv --model glip_scenes --format tsv --output labels --processes 2
    glip label 'pairs/*.tar' --model glip_t --format tsv --output labels --ray --processes 16
    glip label scenes_val_vqa_grounding --model glip_scenes --output output/labels.json

    With --format the texts are captions. SHARDS are WebDataset tars (an image and a .txt or .json),
    the .yaml of GLIP's TSV files, and tables of paths and captions (.csv, .tsv, .jsonl), which are
    labeled --rows at a time. Each shard becomes a folder, all of it or nothing: the files of the
    format; records.jsonl, a line per pair, also of those that could not be used and why; and
    manifest.json, by which the same command goes on after a run that was killed. Another model or
    setting is refused. All boxes from a score of 0.1 are kept; trainings leave out those up to 0.5,
    or as their min_score says.

    Without --format they are the questions of a registered data set, NAME, with the answers that
    most people gave, "what color is the star? red". Boxes of the answer become those of the [MASK]
    in its place: the file is MDETR's json of "what color is the star? [MASK]", which
    `register_grounding_dataset` takes. Until it is written the results stand beside it, in
    NAME.jsonl. KEY=VALUE sets a value of the config.

    The exit status is 0 when every shard is done, or every question is in the file; 1 when some
    could not be used; 2 when nothing could be done; 130 when somebody stopped it (Ctrl-C).
    """
    return run("label", options)
