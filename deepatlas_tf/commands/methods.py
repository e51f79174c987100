"""List the methods: what each is, and its paper."""

import argparse
import sys

EXAMPLES = """\
  deepatlas methods
  deepatlas train --dataset hippocampus --method NAME
"""


def add_arguments(methods: argparse.ArgumentParser) -> None:
    """It has no options."""


def run(args: argparse.Namespace) -> None:
    """Print the first line of the docstring of each name that ``--method`` takes: methods, and other ways to train."""
    from deepatlas_tf.methods import method_class, method_names
    from deepatlas_tf.recipes import get_recipe, recipe_names

    named = {name: get_recipe(name) for name in recipe_names()} | {name: method_class(name) for name in method_names()}
    width = max(map(len, named))
    for name in sorted(named):
        first, *_ = (sys.modules[named[name].__module__].__doc__ or "").split("\n")
        print(f"{name.ljust(width)}  {first}")
