"""What a larger image, prompt, batch, model or job costs, as a Markdown table.

    python -m tools.scaling memory                 GiB of a training step on a GPU, of T, B and H
    python -m tools.scaling check                  the count behind it against this CPU's memory
    python -m tools.scaling curves                 FLOPs over image size, tokens, images and names
    python -m tools.scaling curves --config-file demo/scenes.py --size 320x416 --repeats 3
    python -m tools.scaling processes              the all-reduce's share of a training step
    python -m tools.scaling predict                the step time of many GPUs, by a formula

memory, curves without --repeats and predict compute no values: no GPU and no weights, some minutes
(tools/scaling/fake.py). What the numbers mean and what they came to: docs/scaling.md.
"""

import argparse
import sys
from collections.abc import Iterable

from glipv2_d2.errors import command

from ..benchmark.arguments import image_size, positive
from ..benchmark.report import table
from ..benchmark.settings import Settings
from .curves import measure_curves
from .memory import CARDS, check_memory, measure_memory
from .processes import measure_processes, predict

MODELS = ("pretrain/glipv2_t.py", "pretrain/glipv2_b.py", "pretrain/glipv2_h.py")
FULL, SMALL = (800, 1216), (320, 416)
COLUMNS = {
    "memory": "model | precision | recomputed | state = state:.1f | kept = kept:.1f | "
    "peak = peak:.1f | 1 image = total_1:.1f | 2 = total_2:.1f | 4 = total_4:.1f | "
    + " | ".join(f"in {card} GiB = fits_{card}" for card in CARDS)
    + " | a = pixels:.2f | b = position_tokens:.3f | c = tokens:.2f | d = once:.2f | "
    "error = worst:.1%",
    "check": "model | size | recomputed | counted, GiB = counted:.3f | measured = measured:.3f | "
    "ratio = ratio:.2f",
    "curves": "what | axis | values | GFLOP = gflop | exponent = work:.2f | seconds | "
    "exponent of the time = time:.2f",
    "processes": "model | processes | batch | gradients, MB = gradient_mb:.0f | step = step:.3f | "
    "without all-reduce = no_sync:.3f | all-reduce alone = all_reduce:.3f | share = share:.0% | "
    "GB/s = bandwidth_gb:.2f | predicted step = predicted:.3f",
    "predict": "model | TFLOP = tflop:.1f | gradients, GB = gradient_gb:.2f | "
    "computing = compute:.3f | link | processes | step = step:.3f | efficiency = efficiency:.0%",
}


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("part", choices=COLUMNS)
    add("--config-file", dest="configs", action="append", metavar="FILE",
        help="LazyConfig of a model; several may be given (default: GLIPv2-T, B and H; for check "
        "and processes the demo's, for curves GLIP-T)")  # fmt: skip
    add(
        "--size",
        type=image_size,
        help="HxW of the images (default 800x1216; check, processes: 320x416)",
    )
    add("--repeats", type=positive, help="timed calls (default: curves none, processes 9)")
    add("--batch", type=positive, default=1, help="images of a process (processes, predict)")
    add("--processes", type=positive, default=2)
    add("--tflops", type=float, default=32.0, help="TFLOP/s of a GPU in training, for predict")
    return parser.parse_args(argv)


def rows_of(args: argparse.Namespace) -> Iterable[dict]:
    """The rows of the part that is asked for, as they are measured."""
    part, batch = args.part, args.batch
    many = part in ("memory", "predict")
    default = MODELS if many else ("pretrain/glip_t.py" if part == "curves" else "demo/scenes.py",)
    image = args.size or (FULL if many or part == "curves" else SMALL)
    repeats = (0 if part == "curves" else 9) if args.repeats is None else args.repeats
    for config in args.configs or default:
        settings = Settings(config, size=image, repeats=repeats)
        if part == "memory":
            yield from measure_memory(settings)
        elif part == "check":
            yield from check_memory(settings)
        elif part == "curves":
            yield from measure_curves(settings)
        elif part == "processes":
            yield measure_processes(settings, batch, args.processes)
        else:
            yield from predict(settings, batch, args.tflops * 1e12)


@command
def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    print("\n".join(table(COLUMNS[args.part], list(rows_of(args)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
