"""List the methods: what each is, and its paper."""

import sys

EXAMPLES = """\
  deepatlas methods
  deepatlas train --dataset hippocampus --method NAME
"""


def add_arguments(methods) -> None:
    """It has no options."""


def run(args) -> None:
    """Print the first sentence of each method's docstring."""
    from deepatlas_tf.methods import method_class, method_names

    width = max(map(len, method_names()))
    for name in method_names():
        module = sys.modules[method_class(name).__module__]
        print(f"{name.ljust(width)}  {module.__doc__.splitlines()[0]}")
