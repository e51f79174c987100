# PYTHON_ARGCOMPLETE_OK
"""The command line: one file of ``commands/`` a command. Options take hyphens or underscores.

A command's file has EXAMPLES, ``add_arguments(parser)`` and ``run(args)``, which returns the exit status, None for 0;
the first line of its docstring is its help. ``data_validate.py`` is the command ``deepatlas data validate``. Every
command has ``-q`` and ``-v``, which are not for its file to add: see :mod:`deepatlas_tf.messages`.
"""

import argparse
import contextlib
import difflib
import importlib
import logging
import os
import pkgutil
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, NoReturn

from deepatlas_tf import commands, messages
from deepatlas_tf.types import DataError, DivergedError, MissingDataError, SettingError

COMPLETION = """\
completion of commands, options and files with the Tab key, in bash and zsh (needs pip install argcomplete):
  eval "$(register-python-argcomplete deepatlas)"
"""


def main(argv: list[str] | None = None) -> int:
    """Run a command; 0 when it worked, 1 for bad input, 2 for a wrong call or data that are not there.

    130 after Ctrl-C, 143 after SIGTERM.
    """
    parser = _parser()
    _complete(parser)
    args, unknown = parser.parse_known_args(_hyphens(sys.argv[1:] if argv is None else argv))
    if unknown:
        args.parser.refuse(unknown)
    # Each stage compiles functions of its own, which TensorFlow takes for one that is compiled again and again
    logging.getLogger("tensorflow").addFilter(_is_not_of_retracing)
    before = messages.level()
    messages.set_level(messages.QUIET if args.quiet else messages.VERBOSE if args.verbose else messages.NORMAL)
    try:
        with _terminable():
            return args.run(args) or 0
    except KeyboardInterrupt as stop:
        terminated = isinstance(stop, Terminated)
        what = "terminated" if terminated else "interrupted"
        print(f"{what}: the same command goes on where it can", file=sys.stderr)
        return 143 if terminated else 130
    except Exception as error:
        text, status = explained(error)
        if text is None:
            raise
        if args.verbose:
            traceback.print_exc()
        print(text, file=sys.stderr)
        return status
    finally:
        messages.set_level(before)


def _is_not_of_retracing(record: logging.LogRecord) -> bool:
    return "triggered tf.function retracing" not in record.getMessage()


class Terminated(KeyboardInterrupt):
    """SIGTERM, which schedulers send to a job whose time is over: all ends as by Ctrl-C."""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Within it SIGTERM raises Terminated, in the main thread of a program, which alone may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()

    def stop(number: int, frame: Any) -> None:
        if os.getpid() == process:
            raise Terminated
        os._exit(128 + number)  # a process that this one has started ends without a word, as it would have

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, which names the command's help."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see {self.prog} --help\n")

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """End with the arguments that the command does not take, and the near ones of its options."""
        options = [option for action in self._actions for option in action.option_strings]
        asked = [word.partition("=")[0] for word in unknown if word.startswith("-")]
        near = [option for word in asked for option in difflib.get_close_matches(word, options, n=1)]
        meant = f" (did you mean {' '.join(near)}?)" if near else ""
        self.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")


def command_names() -> tuple[str, ...]:
    """The files of ``commands/``."""
    return tuple(module.name for module in pkgutil.iter_modules(commands.__path__))


def explained(error: Exception) -> tuple[str | None, int]:
    """What is printed for an error, and the exit status; None for one that is a fault of the program."""
    if isinstance(error, DataError | DivergedError):
        return f"error: {error}", 2 if isinstance(error, MissingDataError | SettingError) else 1
    if isinstance(error, BrokenPipeError):  # as by `| head`: nobody reads on, and nothing more can be printed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return "error: the output was closed before its end", 1
    if isinstance(error, OSError):
        where = f"cannot read or write {error.filename}: " if error.filename else ""
        return f"error: {where}{error.strerror or error}; check the path, its permissions and the space left", 1
    if isinstance(error, MemoryError):
        return "error: there is not enough memory: take smaller scans, a smaller batch_size or data.memory_gib", 1
    # TensorFlow passes on what was raised while a stream was read as a text with a traceback
    found = re.search(r"\bDataError: ([^\n]+)", str(error))
    return (f"error: {found[1]}", 1) if found else (None, 1)


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    about = "Learn registration and segmentation together."
    parser = Parser(prog="deepatlas", description=about, epilog=COMPLETION, formatter_class=raw)
    groups = {"": parser.add_subparsers(required=True, metavar="COMMAND")}
    for name in command_names():
        group, _, word = name.rpartition("_")
        if group not in groups:
            several = groups[""].add_parser(group, help=f"commands on {group}")
            groups[group] = several.add_subparsers(required=True, metavar="COMMAND")
        _add_command(groups[group], word, importlib.import_module(f"{commands.__name__}.{name}"))
    return parser


def _add_command(group: Any, word: str, module: ModuleType) -> None:
    description = module.__doc__ or ""
    summary = description.split("\n")[0].rstrip(".")
    epilog = f"examples:\n{module.EXAMPLES}"
    raw = argparse.RawDescriptionHelpFormatter
    command = group.add_parser(
        word, help=summary[0].lower() + summary[1:], description=description, epilog=epilog, formatter_class=raw
    )
    module.add_arguments(command)
    loudness = command.add_mutually_exclusive_group()
    loudness.add_argument("-q", "--quiet", action="store_true", help="print results and errors only")
    loudness.add_argument("-v", "--verbose", action="store_true", help="print the files, and where an error comes from")
    command.set_defaults(run=module.run, parser=command)


def _complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell where it asks for completions; does not return then."""
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)


def _hyphens(argv: list[str]) -> list[str]:
    """``--data_dir=x_y`` -> ``--data-dir=x_y``."""
    changed = []
    for word in argv:
        name, equals, value = word.partition("=")
        changed.append(name.replace("_", "-") + equals + value if name.startswith("--") else word)
    return changed
