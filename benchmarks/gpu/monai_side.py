"""PyTorch and MONAI beside the programs: ``python -m benchmarks.gpu.monai_side FOLDER -o RESULTS``.

The same turns, networks and warps, with the inputs and the weights of the exported programs, as PyTorch's and MONAI's
users write them; those of ``side_by_side``, which ``benchmarks/speed.py`` compares with ours number by number. In
bfloat16 they run under ``torch.autocast``, which keeps the warp in float32. The device is the GPU if PyTorch finds one.

Milliseconds are the median of steps that are waited for one by one, bytes the most that PyTorch had allocated during
them, on a GPU. The share of the peak counts the convolutions that this side computes, which are more than ours.

Written to ``RESULTS/monai.json`` after each program. PyTorch, NumPy and SciPy are all that is needed beside MONAI,
which may be its wheel alone: ``PYTHONPATH=monai-1.6.1-py3-none-any.whl``.
"""

import argparse
import importlib.metadata

import torch
from machine import machine
from side_by_side.monai_nets import registration_net, segmentation_net
from side_by_side.monai_turns import channels_first, turn_task, warp_task
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.given import NAMES, Folder, given
from benchmarks.gpu.results import Results, add_arguments, chosen, timed

TURNS = {"registration_turn": "registration", "segmentation_turn": "segmentation"}
WARPS = {"warp": "none", "warp_gradients": "both"}  # program -> which gradients


def step_of(case: dict, about: dict, weights: dict):
    """A function that takes a step of a case, in its precision, waits for it, and returns what it gives."""
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    autocast = torch.autocast(kind, dtype=torch.bfloat16, enabled=case["precision"] == "bfloat16")
    with autocast:
        run = _made(case, about, weights)

    def step():
        with autocast:
            found = run()
        if kind == "cuda":
            torch.cuda.synchronize()
        return found

    return step


def _made(case, about, weights):
    """The function that is timed, made with the inputs and the weights of the case."""
    name, arrays = case["program"], given(case["program"], case["shape"], about["n_classes"])
    settings = {"n_classes": about["n_classes"], "widths": about["widths"]}
    if name in TURNS:
        pair = {"moving": arrays["moving/image"], "fixed": arrays["fixed/image"], "label": arrays["moving/label"]}
        return turn_task({**settings, "turns": [TURNS[name]]}, {**pair, **weights}).step
    if name in WARPS:  # the upstream gradient is not read where no gradient is asked for
        return warp_task({"gradient": WARPS[name]}, {"gradient": arrays["image"], **arrays}).step
    return _network_step(settings, {**arrays, **weights})


def _network_step(settings, arrays):
    """A network as it is applied; the registration network if there are two images."""
    images = [channels_first(arrays[name]) for name in ("moving/image", "fixed/image") if name in arrays]
    net = (registration_net if len(images) == 2 else segmentation_net)(settings, arrays)

    @torch.no_grad()
    def step():
        found = net(*images)
        return found if len(images) == 2 else found.softmax(dim=1)

    return step


def measured(case: dict, about: dict, weights: dict, repeats: int) -> dict:
    """Milliseconds and bytes of a case, and the operations of its convolutions."""
    step = step_of(case, about, weights)
    with FlopCounterMode(display=False) as counter:
        step()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    found = timed(step, repeats)
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    return {**found, "convolution_flop": counter.get_total_flops(), "bytes": peak}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, NAMES)
    args = parser.parse_args()
    folder, gpu = Folder(args.folder), torch.cuda.is_available()
    if gpu:
        torch.set_default_device("cuda")
    about, weights = folder.about(), folder.weights()
    weights = {name: w for name, w in weights.items() if name.startswith(("registration/", "segmentation/"))}
    versions = {name: importlib.metadata.version(name) for name in ("torch", "monai", "numpy")}
    described = {
        "what": "PyTorch and MONAI",
        "machine": machine(torch.cuda.device_count()),
        "versions": versions,
        "device": torch.cuda.get_device_name() if gpu else "cpu",
    }
    results = Results(args.output / "monai.json", described, args)
    for case in chosen(about, args):
        results.add(case, lambda case=case: measured(case, about, weights, args.repeats))
    results.end()


if __name__ == "__main__":
    main()
