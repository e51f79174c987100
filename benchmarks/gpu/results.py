"""What both sides measure and write, and the options that they share. No TensorFlow, JAX or PyTorch."""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.gpu.given import PRECISIONS, text


def add_arguments(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """The options of both sides."""
    parser.add_argument("folder", type=Path, help="where export wrote the programs")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the results")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="some of the programs")
    parser.add_argument("--sizes", nargs="+", metavar="SIZE", help="some of those that were exported, as 160x192x160")
    parser.add_argument("--repeats", type=int, default=20, help="steps that are timed, after three that are not")
    parser.add_argument("--limit", type=float, default=270, help="seconds after which no other program is begun")
    peak_help = "what the card can do, such as float32=60 bfloat16=900; without it no share of the peak is given"
    parser.add_argument("--peak-tflops", nargs="+", default=[], metavar="PRECISION=NUMBER", type=_peak, help=peak_help)


def _peak(argument: str) -> tuple[str, float]:
    precision, _, number = argument.partition("=")
    if precision not in PRECISIONS:
        raise argparse.ArgumentTypeError(f"{precision!r} is none of {', '.join(PRECISIONS)}")
    return precision, float(number)


def chosen(about: dict, args: argparse.Namespace) -> list[dict]:
    """The cases of ``programs.json`` that the options ask for, the small ones first."""
    cases = [case for case in about["cases"] if case["program"] in args.only]
    cases = [case for case in cases if not args.sizes or text(case["shape"]) in args.sizes]
    return sorted(cases, key=lambda case: math.prod(case["shape"]))


def timed(step: Callable, repeats: int) -> dict:
    """Median and quartiles of the milliseconds of a step that waits for its results; after three that do not count."""
    for _ in range(3):
        step()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive") if repeats > 1 else 3 * seconds
    return {"ms": round(1e3 * median, 4), "quartiles_ms": [round(1e3 * low, 4), round(1e3 * high, 4)], "n": repeats}


class Results:
    """A file of results that is written after each case, so that nothing is lost where the time runs out."""

    def __init__(self, path: Path, described: dict, args: argparse.Namespace):
        self.path, self.described, self.peaks = path, described, dict(args.peak_tflops)
        self.until, self.cases, self.left_out = time.monotonic() + args.limit, [], []
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, case: dict, measure: Callable[[], dict]) -> None:
        """Measure a case and write it; a case for which no time is left, or that fails, is listed as left out."""
        named = {name: case[name] for name in ("program", "shape", "precision")}
        if time.monotonic() > self.until:
            self.left_out.append({**named, "why": "no time was left"})
        else:
            try:
                found = {**named, **measure()}
            except (RuntimeError, MemoryError) as error:  # such as a device without enough memory
                self.left_out.append({**named, "why": str(error)[:500], "failed": True})
            else:
                self.cases.append(found | self._share(found))
                print(json.dumps(self.cases[-1]), flush=True)
        whole = {**self.described, "peak_tflops": self.peaks, "cases": self.cases, "left_out": self.left_out}
        self.path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")

    def end(self) -> None:
        """Say what was left out; the process ends with status 1 where something failed."""
        for case in self.left_out:
            print(json.dumps(case), flush=True)
        if any(case.get("failed") for case in self.left_out):
            raise SystemExit(1)

    def _share(self, found: dict) -> dict:
        """The convolutions' operations over the time, as a share of the card's peak for the precision."""
        peak = self.peaks.get(found["precision"])
        if not peak or not found.get("convolution_flop"):
            return {}
        return {"share_of_peak": round(found["convolution_flop"] / (found["ms"] * 1e-3) / (peak * 1e12), 4)}
