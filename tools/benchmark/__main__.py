"""Speed, memory and work of GLIP against the official arrangement and Grounding DINO.

    python -m tools.benchmark                              everything: hours on a CPU, see below
    python -m tools.benchmark --only speed,stages --prompts coco --batch 1
    python -m tools.benchmark --only lvis --chunks 4       4 of LVIS's 31 prompts
    python -m tools.benchmark --device cuda --only speed,gdino,memory
    python -m tools.benchmark --only losses --config-file pretrain/glipv2_t.py
    python -m tools.benchmark --quick                      a small model: does the machinery work?

The official arrangement is the same weights computed in the official code's order of work (see
tools/benchmark/official.py); that both give the same outputs is checked before they are timed.
Parts: speed (seconds, FLOPs, share of the machine's peak), gdino (Grounding DINO beside it),
stages, lvis, memory (peak of each side in a process of its own), train (a training step), losses
(what GLIPv2's add to one), compile (torch.compile over several image sizes), agreement (half
precisions against float32), profile (the operations that take the time), captions (with what is
kept from word to word and without), exported (what is in the folders of --exported), shortlist
(large vocabularies, of which the best names are asked). The last three and losses: only if asked.
All sides of a table are measured in turns in one run. benchmark.md and benchmark.json are left in
the output folder, written anew after each part.
"""

import argparse
import dataclasses
import shlex
import sys
import time
from collections.abc import Callable

import torch

from glipv2_d2.errors import ConfigError, command
from glipv2_d2.modeling.devices import resolve_device

from .arguments import PARTS, parse
from .captions import measure_captions
from .compiling import measure_compile
from .exported import measure_exported
from .inference import measure_half, measure_lvis, measure_speed, measure_stages
from .losses import measure_losses
from .machine import describe_machine, matmul_peak
from .memory import measure_memory
from .profiling import measure_profile
from .report import markdown, write_report
from .settings import Settings, build_model
from .shortlist import measure_shortlist
from .sides import Bench, precision_of
from .training import measure_training
from .workers import available_memory_gb


class Run:
    """One run: its parts fill `results`, which is written after each of them."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        args.device = resolve_device(args.device)
        fields = [field.name for field in dataclasses.fields(Settings)]
        self.settings = Settings(**{name: getattr(args, name) for name in fields})
        self.settings.prepare()
        self.bench = Bench(self.settings, build_model(self.settings))
        described = dataclasses.asdict(self.settings)
        described["source"] = "files" if args.images else "photographs of scikit-image"
        self.results = {
            "command": self._command(),
            "machine": describe_machine(self.settings.device, args.threads),
            "settings": described,
            "peaks": {},
            "parts": {},
            "problems": {},
        }
        limit = available_memory_gb()
        self.memory_limit = args.memory_limit or (0.9 * limit if limit else None)

    def sides(self, *names: str) -> list[str]:
        """Of these sides the ones that were asked for."""
        wanted = self.args.sides
        kept = []
        for name in names:
            # The official arrangement in float32 is what all is compared with.
            if precision_of(name) not in self.args.precision and name != "official":
                continue
            if wanted is None or name in wanted or (name == "ours-new" and "ours" in wanted):
                kept.append(name)
        return kept

    def run(self) -> None:
        args = self.args
        only = set(args.only) - {"gdino"} | ({"speed"} if "gdino" in args.only else set())
        for part in PARTS:
            if part in only:
                start = time.perf_counter()
                print(f"-- {part}", flush=True)
                self.attempt(part, getattr(self, part))
                print(f"   {time.perf_counter() - start:.0f} s", flush=True)
                write_report(self.results, args.output)
        print(markdown(self.results))
        print(f"Written to {args.output}/benchmark.md and benchmark.json")

    def attempt(self, name: str, measure: Callable[[], None]) -> None:
        """Measure; what cannot be measured is a problem of this case, and the others go on."""
        try:
            measure()
        except (ConfigError, torch.cuda.OutOfMemoryError) as error:
            self.results["problems"][name] = str(error).strip().splitlines()[0]
            print(f"error: {name}: {error}", file=sys.stderr)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def add(self, part: str, rows: list[dict], **options) -> None:
        """Rows of a part, with the command that measures them again."""
        command = self._command(part, **options)
        rows = [row | {"command": command} for row in rows]
        self.results["parts"].setdefault(part, []).extend(rows)

    def speed(self) -> None:
        gdino = ("gdino", "gdino-bf16") if "gdino" in self.args.only else ()
        own = ("official", "ours", "ours-new", "ours-bf16", "official-bf16")
        if "speed" not in self.args.only:
            own = ("ours", "ours-bf16")
        sides = self.sides(*own, *gdino)
        if self.args.sides is None and "official-bf16" in sides:
            sides.remove("official-bf16")  # only where it is asked for
        only = ",".join(p for p in ("speed", "gdino") if p in self.args.only)
        self._measure_peaks()
        for kind in self.args.prompts:
            for batch in self.args.batch:

                def measure(kind=kind, batch=batch):
                    rows = measure_speed(self.bench, kind, batch, sides)
                    self.add("speed", rows, only=only, prompts=kind, batch=batch)

                self.attempt(f"speed, {kind}, batch {batch}", measure)
                self._measure_peaks()
        for row in self.results["parts"].get("speed", []):
            peak = self.results["peaks"][precision_of(row["side"])]
            row["share_of_peak"] = row["gflop_per_second"] / peak

    def _measure_peaks(self) -> None:
        """The best matrix product so far: a machine that is busy at one time may not be later."""
        peaks = self.results["peaks"]
        for precision in dict.fromkeys(("float32", *self.args.precision)):
            measured = matmul_peak(self.settings.device, precision)
            peaks[precision] = max(measured, peaks.get(precision, 0.0))

    def stages(self) -> None:
        batch = self.args.batch[0]
        sides = self.sides("official", "ours-new", "ours-bf16")
        for kind in self.args.prompts:
            rows = measure_stages(self.bench, kind, batch, sides)
            self.add("stages", rows, prompts=kind, batch=batch)

    def lvis(self) -> None:
        batch = self.args.batch[0]
        sides = self.sides("official", "ours", "ours-bf16")
        rows = measure_lvis(self.bench, self.args.chunks, batch, sides)
        self.add("lvis", rows, batch=batch)

    def memory(self) -> None:
        sides = self.sides("official", "ours", "ours-bf16")
        sides += self.sides("gdino") if "gdino" in self.args.only else []
        for kind in self.args.prompts:
            for batch in self.args.batch:
                rows = measure_memory(self.settings, kind, batch, sides, self.memory_limit)
                only = "gdino,memory" if "gdino" in sides else "memory"
                self.add("memory", rows, only=only, prompts=kind, batch=batch)

    def train(self) -> None:
        settings = dataclasses.replace(self.settings, size=self.args.train_size)
        batch, precisions = self.args.train_batch, self.args.precision
        self.add("train", measure_training(settings, batch, precisions, self.memory_limit))

    def losses(self) -> None:
        settings = dataclasses.replace(self.settings, size=self.args.train_size)
        self.add("losses", measure_losses(settings, self.args.train_batch, self.args.precision))

    def compile(self) -> None:
        for precision in self.args.precision:
            sizes = self.args.compile_sizes
            rows = measure_compile(self.settings, "coco", sizes, precision)
            self.add("compile", rows, precision=precision)

    def agreement(self) -> None:
        for precision in self.args.precision:
            for kind in self.args.prompts if precision != "float32" else ():
                rows = measure_half(self.bench, kind, self.args.batch[0], precision)
                self.add("agreement", rows, precision=precision, prompts=kind)

    def profile(self) -> None:
        batch, kind = self.args.batch[0], self.args.prompts[-1]
        for side in self.sides("ours-bf16") or ["ours"]:
            rows = measure_profile(self.bench, kind, batch, side, self.args.output)
            self.add("profile", rows, prompts=kind, batch=batch)

    def captions(self) -> None:
        for batch in self.args.batch:
            self.add("captions", measure_captions(self.bench, self.settings, batch), batch=batch)

    def exported(self) -> None:
        for kind in self.args.prompts:
            for batch in self.args.batch:
                folders, sides = self.args.exported, ["ours", *self.sides("ours-bf16")]
                self._measure_peaks()
                rows = measure_exported(self.bench, folders, kind, batch, sides)
                self.add("exported", rows, prompts=kind, batch=batch)

    def shortlist(self) -> None:
        self.add("shortlist", measure_shortlist(self.bench, self.args.chunks))

    def _command(self, part: str | None = None, **options) -> str:
        """The command line of this run, narrowed to one part and one case."""
        changed = {"only": part, **options, "output": None} if part else {}
        words, given = ["python", "-m", "tools.benchmark"], iter(self.args.given)
        for word in given:
            name = word.split("=")[0].removeprefix("--")
            if word.startswith("--") and name in changed:
                if "=" not in word:
                    next(given, None)
                continue
            words.append(word)
        narrowed = [x for k, v in changed.items() if v for x in (f"--{k}", str(v))]
        return shlex.join(words[:3] + narrowed + words[3:])


@command
def main(argv: list[str] | None = None) -> int:
    args = parse(argv, __doc__)
    run = Run(args)
    run.run()
    return 1 if run.results["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
