"""The programs on the first device of JAX, without TensorFlow: ``python -m benchmarks.gpu.run FOLDER -o RESULTS``.

Milliseconds are the median of steps that are waited for one by one; a turn takes the variables that the step before
gave. Bytes are what XLA reserves for the program: inputs, outputs and the largest sum of what it holds between them;
``device_peak_bytes`` is the most that the process has had on the device so far, where the device says so. The share of
the peak counts the convolutions alone as work, as in ``benchmarks/efficiency.py``; ``xla_flop`` is what XLA counts in
the program that it made, where it knows, with both branches of a condition. In float32 a GPU may round products to
TF32, on both sides.

Written to ``RESULTS/jax.json`` after each program. JAX, NumPy and SciPy are all that is needed.
"""

import argparse
import time

import jax
import numpy as np
from machine import machine

from benchmarks.gpu.given import NAMES, Folder, given
from benchmarks.gpu.results import Results, add_arguments, chosen, timed

WHAT = "XLA program of our step, run by JAX's client"
jax.config.update("jax_enable_x64", True)  # or the count of steps, int64, would become another type


def compiled(program: bytes, device):
    """An executable of a serialised ``HloModuleProto`` on a device.

    JAX has no public function for programs that it did not trace. These names were found in the versions 0.4.20 to
    0.10.2; what they take has changed in between.
    """
    from jax._src.lib import xla_client

    mlir, options = xla_client._xla.mlir, xla_client.CompileOptions()
    if hasattr(mlir, "hlo_to_stablehlo"):
        module = mlir.hlo_to_stablehlo(program)
    else:
        module = mlir.xla_computation_to_mlir_module(xla_client.XlaComputation(program))
    if hasattr(device.client, "compile_and_load"):
        return device.client.compile_and_load(module, xla_client.DeviceList((device,)), options)
    return device.client.compile(module, options)


def start_values(case: dict, about: dict, weights: dict[str, np.ndarray], device) -> list:
    """The inputs of a program on the device: what is given, and the variables with the values they start with."""
    values = given(case["program"], case["shape"], about["n_classes"]) | weights
    found = []
    for one in case["inputs"]:
        value = np.asarray(values[one["name"]]).astype(jax.numpy.dtype(one["dtype"]))
        found.append(jax.device_put(value, device))
    return found


class Steps:
    """A program that can be run again and again, each time with the variables that the last step gave."""

    def __init__(self, case: dict, executable, values: list):
        self.case, self.executable, self.values = case, executable, values

    def __call__(self) -> list:
        """The outputs, when they have been computed. Those that are new values of variables are then inputs."""
        outputs = jax.block_until_ready(self.executable.execute(self.values))
        for about, value in zip(self.case["outputs"], outputs, strict=True):
            if about["input"] is not None:
                self.values[about["input"]] = value
        return outputs


def measured(case: dict, about: dict, folder: Folder, device, repeats: int, check: bool) -> dict:
    """Milliseconds and bytes of a program; with ``check`` how far its first outputs are from TensorFlow's."""
    start = time.perf_counter()
    executable = compiled(folder.program(case), device)
    found = {"compile_s": round(time.perf_counter() - start, 2)}
    step = Steps(case, executable, start_values(case, about, folder.weights(), device))
    outputs = step()
    if check:
        names = [one["name"] for one in case["outputs"]]
        values = {name: np.asarray(output, np.float64) for name, output in zip(names, outputs, strict=True)}
        found["largest_difference"] = largest_difference(values, np.load(folder.expected(case)))
    found |= timed(step, repeats)
    flop = {"convolution_flop": case["convolution_flop"], "xla_flop": executable.cost_analysis().get("flops")}
    return {**found, **flop, **bytes_of(executable, device)}


def largest_difference(values, expected) -> dict:
    """How far the outputs are from what was expected, each as a share of its largest number.

    Returns:
        ``output``, the one that is furthest off, and ``relative``, by how much; of a turn also ``terms``, the largest
        difference of its loss and terms: in bfloat16 the gradients of small weights are rounding alone.
    """
    shares = {}
    for name, value in values.items():
        reference = np.asarray(expected[name], np.float64)
        shares[name] = float(np.abs(value - reference).max() / max(np.abs(reference).max(), 1e-12))
    worst = max(shares, key=shares.get)
    terms = [share for name, share in shares.items() if name.startswith("mean/")]
    return {"output": worst, "relative": shares[worst], **({"terms": max(terms)} if terms else {})}


def bytes_of(executable, device) -> dict:
    """Bytes that XLA reserves for a program, and the most that the process has had on the device; None if unknown."""
    stats = executable.get_compiled_memory_stats()
    parts = {part: getattr(stats, f"{part}_size_in_bytes") for part in ("argument", "output", "temp", "alias")}
    reserved = parts["argument"] + parts["output"] + parts["temp"] - parts["alias"]
    return {"bytes": reserved or None, "device_peak_bytes": (device.memory_stats() or {}).get("peak_bytes_in_use")}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, NAMES)
    parser.add_argument("--check", action="store_true", help="compare with what benchmarks.gpu.expected wrote")
    args = parser.parse_args()
    folder, device = Folder(args.folder), jax.devices()[0]
    about = folder.about()
    gpus = len(jax.devices()) if device.platform == "gpu" else 0
    versions = {"jax": jax.__version__, "exported": about["versions"]}
    described = {"what": WHAT, "machine": machine(gpus), "versions": versions, "commit": about["commit"]}
    results = Results(args.output / "jax.json", {**described, "device": device.device_kind}, args)
    for case in chosen(about, args):
        results.add(case, lambda case=case: measured(case, about, folder, device, args.repeats, args.check))
    results.end()


if __name__ == "__main__":
    main()
