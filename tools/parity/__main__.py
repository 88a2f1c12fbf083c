"""Compare this project's GLIP-T with stored outputs of the official one, from image to boxes.

    python -m tools.parity                                     all golden cases
    python -m tools.parity tools/parity/golden/case_a.npz      one of them

The model is built from configs/pretrain/glip_t.py with generated weights (see
tools/parity/generated_weights.py), so nothing is downloaded. Every stored value is listed with its
largest absolute and relative difference; what this model does not compute is listed with the
reason. Exit status: 0 all within the tolerance, 1 something is not, 2 a file cannot be read.

Judged by absolute difference: tensors and the scores of detections (--tolerance), boxes of
detections (0.05 pixels). By relative difference: losses and gradients (--tolerance).
"""

import argparse
import sys
import time
from pathlib import Path

from glipv2_d2.errors import command
from glipv2_d2.modeling.devices import resolve_device

from .cases import ParityCase, TrainingCase
from .inference import verify_case
from .model import build_model
from .training import verify_training

GOLDEN = Path(__file__).resolve().parent / "golden"


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "cases",
        nargs="*",
        metavar="CASE.npz",
        type=Path,
        help="outputs of a forward pass; default, without --train: all golden ones",
    )
    parser.add_argument(
        "--train", nargs="+", default=[], type=Path, metavar="CASE.json",
        help="losses and gradients; their images and captions come from the case's .npz",
    )  # fmt: skip
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or auto; TF32 is off")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="default: %(default)g")
    parsed = parser.parse_args(arguments)
    if not parsed.cases and not parsed.train:
        parsed.cases = sorted(GOLDEN.glob("*.npz"))
        parsed.train = sorted(GOLDEN.glob("*.json"))
    if not parsed.tolerance > 0:
        parser.error(f"--tolerance must be positive, got {parsed.tolerance}")
    return parsed


@command
def main(arguments: list[str] | None = None) -> int:
    args = parse_arguments(arguments)
    cases = [ParityCase.load(path) for path in args.cases]
    trainings = [TrainingCase.load(path, cases) for path in args.train]
    started = time.perf_counter()
    model = build_model(resolve_device(args.device))
    print(f"GLIP-T with generated weights: {time.perf_counter() - started:.0f} s\n", flush=True)
    reports = []
    for verify, items in ((verify_case, cases), (verify_training, trainings)):
        for item in items:
            started = time.perf_counter()
            report = verify(model, item, args.tolerance)
            print(f"{report}\n({time.perf_counter() - started:.0f} s)\n", flush=True)
            reports.append(report)
    print("\n".join(report.summary() for report in reports))
    return 1 if any(report.failures for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main())
