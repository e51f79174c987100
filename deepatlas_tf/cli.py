"""The command line: one file of ``commands/`` a command. Options take hyphens or underscores.

A command's file has EXAMPLES, ``add_arguments(parser)`` and ``run(args)``, which returns the exit status, None for 0;
the first line of its docstring is its help. ``data_validate.py`` is the command ``deepatlas data validate``.
"""

import argparse
import importlib
import pkgutil
import sys

from deepatlas_tf import commands
from deepatlas_tf.types import DataError, DivergedError, MissingDataError, SettingError


def main(argv: list[str] | None = None) -> int:
    """Run a command; 0 when it worked, 1 for bad input, 2 for a wrong call or data that are not there."""
    args = _parser().parse_args(_hyphens(sys.argv[1:] if argv is None else argv))
    try:
        return args.run(args) or 0
    except MissingDataError as error:
        print(error, file=sys.stderr)
        return 2
    except (DataError, DivergedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, SettingError) else 1
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where it can", file=sys.stderr)
        return 130


def command_names() -> tuple[str, ...]:
    """The files of ``commands/``."""
    return tuple(module.name for module in pkgutil.iter_modules(commands.__path__))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="deepatlas", description="Learn registration and segmentation together.")
    groups = {"": parser.add_subparsers(required=True, metavar="COMMAND")}
    for name in command_names():
        group, _, word = name.rpartition("_")
        if group not in groups:
            several = groups[""].add_parser(group, help=f"commands on {group}")
            groups[group] = several.add_subparsers(required=True, metavar="COMMAND")
        _add_command(groups[group], word, importlib.import_module(f"{commands.__name__}.{name}"))
    return parser


def _add_command(group, word: str, module) -> None:
    summary = module.__doc__.split("\n")[0].rstrip(".")
    epilog = f"examples:\n{module.EXAMPLES}"
    raw = argparse.RawDescriptionHelpFormatter
    command = group.add_parser(
        word, help=summary[0].lower() + summary[1:], description=module.__doc__, epilog=epilog, formatter_class=raw
    )
    module.add_arguments(command)
    command.set_defaults(run=module.run)


def _hyphens(argv: list[str]) -> list[str]:
    """``--data_dir=x_y`` -> ``--data-dir=x_y``."""
    changed = []
    for word in argv:
        name, equals, value = word.partition("=")
        changed.append(name.replace("_", "-") + equals + value if name.startswith("--") else word)
    return changed
