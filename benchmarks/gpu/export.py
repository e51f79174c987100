"""The programs as files, with TensorFlow, on any CPU: ``python -m benchmarks.gpu.export FOLDER --sizes 64 128``.

A program is a ``tf.function`` with ``jit_compile=True``, lowered to HLO, which knows nothing of the machine. What it is
given are the inputs of the function, then its variables; what it gives are the results of the function, then the new
values of those variables that it changes.
"""

import argparse
import re
from pathlib import Path

from efficiency import convolution_operations
from side_by_side.rows import TINY_WIDTHS, WIDTHS
from turns import commit

from benchmarks.gpu.given import NAMES, OUTPUTS, PRECISIONS, Folder, text
from benchmarks.gpu.programs import Program, as_on_a_gpu, programs
from deepatlas_tf.keras_stack import tf, versions

CLASSES = 4


def lowered(name: str, program: Program) -> tuple[bytes, dict]:
    """A program's ``HloModuleProto``, serialised, and what it takes and gives.

    Returns:
        The program, and a dictionary: ``inputs``, each with ``name``, ``shape`` and ``dtype``; ``outputs``, each with
        ``name`` and ``input``, the number of the input that it is the new value of, or None.

    Raises:
        ValueError: if the program reads something that is no variable, or XLA did not keep its inputs and outputs.
    """
    function = tf.function(program.function, jit_compile=True, autograph=False)
    specs = list(program.specs.values())
    concrete = function.get_concrete_function(*specs)
    handles = {id(variable.handle): name for name, variable in program.variables.items()}
    unknown = [tensor for tensor in concrete.captured_inputs if id(tensor) not in handles]
    if unknown:
        raise ValueError(f"{name} reads {unknown[0]}, which is none of its variables")
    read = [handles[id(tensor)] for tensor in concrete.captured_inputs]
    inputs = [{"name": one, "shape": list(s.shape), "dtype": s.dtype.name} for one, s in program.specs.items()]
    for one in read:
        variable = program.variables[one]
        inputs.append({"name": one, "shape": list(variable.shape), "dtype": variable.dtype.name})
    stage = function.experimental_get_compiler_ir(*specs)
    header = stage("hlo").partition("\n")[0]
    changed = _changed(header)
    names = OUTPUTS.get(name, ())
    if sorted(changed) != list(range(len(names), len(names) + len(changed))) or not _takes(header, len(inputs)):
        raise ValueError(f"{name}: XLA changed the inputs or outputs: {header}")
    outputs = [{"name": one, "input": None} for one in names]
    outputs += [{"name": inputs[number]["name"], "input": number} for _, number in sorted(changed.items())]
    return stage("hlo_serialized"), {
        "inputs": inputs,
        "outputs": outputs,
        "convolution_flop": _convolution_flop(concrete, program),
    }


def _changed(header: str) -> dict[int, int]:
    """Number of an output -> number of the input that it is the new value of, from the first line of an HLO text."""
    return {int(output): int(number) for output, number in re.findall(r"\{(\d+)\}: \((\d+), \{\}", header)}


def _takes(header: str, n_inputs: int) -> bool:
    """Whether the program has so many inputs, all of which have a fixed shape."""
    taken = header.partition("entry_computation_layout={(")[2].partition(")->")[0]
    return len(re.findall(r"\w+\[[\d,]*\]", taken)) == n_inputs and "<=" not in header


def _convolution_flop(concrete, program: Program) -> int:
    """Multiplications and additions of all convolutions, as ``benchmarks/efficiency.py`` counts them."""
    values = [tf.zeros(spec.shape, spec.dtype) for spec in program.specs.values()]
    if "moving/label_weight" in program.specs:  # the turns leave out what the labels make unnecessary
        number = list(program.specs).index("moving/label_weight")
        values[number] = tf.ones_like(values[number])
    return sum(convolution_operations(concrete, values).values())


def export(folder: Folder, shapes, precisions, names, tiny: bool = False) -> dict:
    """Write the programs; what ``programs.json`` holds."""
    widths, n_classes = (TINY_WIDTHS, 3) if tiny else (WIDTHS, CLASSES)
    cases, weights = [], {}
    for shape in shapes:
        for precision in precisions:
            with as_on_a_gpu():
                found = programs(shape, n_classes, precision, widths)
                weights = {one: variable.numpy() for one, variable in found[names[0]].variables.items()}
                for name in names:
                    file = f"{name}_{text(shape)}_{precision}.hlo.gz"
                    case = {"program": name, "shape": list(shape), "precision": precision, "file": file}
                    program, about = lowered(name, found[name])
                    folder.write_program(case, program)
                    cases.append({**case, **about})
                    print(file, flush=True)
    about = {"commit": commit(), "versions": versions(), "n_classes": n_classes, "widths": widths, "cases": cases}
    folder.write(about, weights)
    return about


def shape_of(size: str) -> tuple[int, ...]:
    """``160x192x160``, or ``64`` for a cube."""
    numbers = tuple(int(number) for number in size.split("x"))
    return numbers * 3 if len(numbers) == 1 else numbers


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for the programs")
    sizes = ["64", "128", "160x192x160"]
    parser.add_argument("--sizes", nargs="+", default=sizes, metavar="SIZE", help=f"by default {' '.join(sizes)}")
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--only", nargs="+", default=NAMES, choices=NAMES, help="some of the programs")
    parser.add_argument("--tiny", action="store_true", help="networks of few channels, to try the benchmark")
    args = parser.parse_args()
    export(Folder(args.folder), [shape_of(size) for size in args.sizes], args.precisions, args.only, args.tiny)


if __name__ == "__main__":
    main()
