"""DeepAtlas on a GPU where there are JAX and PyTorch, but no TensorFlow.

    python -m benchmarks.gpu.export programs --sizes 64 128         # here, on any CPU, with TensorFlow
    python -m benchmarks.gpu.run programs -o results                # there, with JAX
    python -m benchmarks.gpu.monai_side programs -o results         # there, with PyTorch and MONAI
    python -m benchmarks.gpu.table results                          # anywhere

Both turns, the two networks and the warp are lowered to programs for XLA (HLO), with the operations that the package
takes where it has a GPU. JAX's client compiles and runs them: what is measured is the XLA program of our step, run by
JAX's client, and not TensorFlow. PyTorch and MONAI do the same beside it, with the same weights and inputs.

There are two more commands, for tests: ``expected`` writes what TensorFlow's normal step gives for the inputs of the
programs, and ``run --check`` compares.
"""

import sys
from pathlib import Path

_BENCHMARKS = str(Path(__file__).resolve().parents[1])
if _BENCHMARKS not in sys.path:  # where the other benchmarks find each other
    sys.path.append(_BENCHMARKS)
