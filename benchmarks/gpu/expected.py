"""What TensorFlow's normal step gives for the programs of a folder: ``python -m benchmarks.gpu.expected FOLDER``.

It is a process of its own, since functions that were traced as on a GPU would stay as they are. For small sizes.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.gpu.given import Folder, given
from benchmarks.gpu.programs import programs
from deepatlas_tf.keras_stack import graph_function, tf


def expected(case: dict, about: dict, weights: dict[str, np.ndarray], made=graph_function) -> dict[str, np.ndarray]:
    """Name of each output of a case of ``programs.json`` -> its value, float32 or an integer.

    ``made``: gives the ``tf.function`` of a function, by default as in training.
    """
    found = programs(case["shape"], about["n_classes"], case["precision"], about["widths"])
    program = found[case["program"]]
    for name, variable in program.variables.items():
        variable.assign(weights[name])
    values = given(case["program"], case["shape"], about["n_classes"])
    tensors = [tf.cast(values[name], spec.dtype) for name, spec in program.specs.items()]
    returned = iter(tf.nest.flatten(made(program.function)(*tensors)))
    outputs = {
        one["name"]: next(returned) if one["input"] is None else program.variables[one["name"]]
        for one in case["outputs"]
    }
    return {name: _as_numpy(tensor) for name, tensor in outputs.items()}


def _as_numpy(tensor):
    tensor = tf.convert_to_tensor(tensor)
    return (tf.cast(tensor, tf.float32) if tensor.dtype == tf.bfloat16 else tensor).numpy()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where export wrote the programs")
    folder = Folder(parser.parse_args().folder)
    about, weights = folder.about(), folder.weights()
    for case in about["cases"]:
        np.savez(folder.expected(case), **expected(case, about, weights))


if __name__ == "__main__":
    main()
