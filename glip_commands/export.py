"""`glip export`: see glipv2_d2/cli/export.py."""

from typing import Any

import click

from glip_commands.command import PackageCommand, model_options, run


@click.command(cls=PackageCommand, short_help="Write a model as graphs (PyTorch, ONNX, OpenVINO).")
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[KEY=VALUE]...")
@model_options
@click.option("--output", required=True, help="folder, or .safetensors file of weights; made here")
@click.option(
    "--format",
    type=click.Choice(["torch", "onnx", "openvino", "weights"]),
    default="torch",
    help="graphs for one of these, or with --prompt weights without language model",
)
@click.option(
    "--prompt", help='the only one that the export answers, "cat, dog", or a tuned one\'s file'
)
@click.option("--kind", type=click.Choice(["auto", "classes", "caption"]), default="auto")
@click.option(
    "--int8",
    metavar="PHOTOS|test",
    help="--format openvino: compute in 8 bits, calibrated on photographs, or on the test sets "
    "of the config",
)
@click.option("--check", is_flag=True, help="compare with the model afterwards")
def export(**options: Any) -> int:
    """Write a model as graphs for programs that do not have its Python code (docs/export.md).

    \b
    glip export --model glip_scenes --output output/exported --check
    glip export --model glip_t --output output/street --format openvino \\
        --prompt "person, bicycle, traffic light"
    glip export --model glip_t --output output/coco --format openvino --int8 test
    glip export --model glip_t --output street.safetensors --format weights \\
        --prompt "person, bicycle, traffic light"

    The output is a folder with the graph from image to predictions, the language model as a second
    graph, further ones of masks, answers and captions where the model has them, its tokenizer,
    export.json with all settings, and glip_runtime.py, which runs it all without Detectron2. With
    --prompt the language model and captions stay out: what it makes of that prompt is stored
    instead. --format weights writes such a model as one file, which is used and trained like its
    original. --check runs the result beside the model.

    An export stands in place of weights, --weights OUTPUT, for detect, ask, caption, label, serve
    and eval.
    """
    return run("export", options)
