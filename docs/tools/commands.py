"""Write docs/commands.md from the parsers of the commands: ``python docs/tools/commands.py``."""

import argparse
import re
from pathlib import Path

from deepatlas_tf import cli

PAGE = Path(__file__).parents[1] / "commands.md"
HEAD = """\
# Commands

`deepatlas COMMAND` and `python -m deepatlas_tf COMMAND` are the same; `python -m deepatlas_tf.train` is `deepatlas
train`. Options take hyphens or underscores. The exit status is 0 where all went well, 1 for bad input and for what
could not be done, 2 for a wrong call, an unknown setting or data that are not where they should be, 130 after Ctrl-C,
143 after SIGTERM. An error is one line on the standard error output. This page is written from the program by `python
docs/tools/commands.py`.
"""


def page() -> str:
    """The whole page."""
    sections = [_section(parser) for parser in leaves(cli._parser())]
    return "\n".join([HEAD, *sections])


def leaves(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The parsers of the commands, without those of their groups."""
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not groups:
        return [parser]
    return [leaf for group in groups for child in group.choices.values() for leaf in leaves(child)]


def _section(parser) -> str:
    actions = [a for a in parser._actions if not isinstance(a, argparse._HelpAction) and a.help != argparse.SUPPRESS]
    positional = [a for a in actions if not a.option_strings]
    usage = " ".join([parser.prog, *(_positional(a) for a in positional), *_required(actions), "[options]"])
    lines = [f"## {parser.prog}", "", _text(parser.description), "", "```text", usage, "```", ""]
    if actions:
        lines += ["| argument | meaning |", "|---|---|"]
        lines += [f"| {_name(a)} | {_help(a)} |" for a in actions]
        lines.append("")
    examples = parser.epilog.removeprefix("examples:\n").rstrip()
    return "\n".join([*lines, "```bash", _dedent(examples), "```", ""])


def _text(description: str) -> str:
    """The docstring; names of files and options in it are code."""
    words = re.compile(r"(?<![\w`/-])(--[a-z-]+|[\w.]+/?\.(?:nii\.gz|csv|json|html|pbtxt|txt|md|pdf))(?![\w`])")
    return re.sub(r"docs/(\w+\.md)", r"[docs/\1](\1)", words.sub(r"`\1`", description.strip()))


def _positional(action) -> str:
    name = action.metavar or action.dest.upper()
    return f"{name}..." if action.nargs == "+" else name


def _required(actions) -> list[str]:
    return [f"{a.option_strings[0]} {_value(a)}" for a in actions if a.option_strings and a.required]


def _value(action) -> str:
    if action.choices:
        return "{" + ",".join(map(str, action.choices)) + "}"
    value = action.metavar or action.dest.upper()
    return value if isinstance(value, str) else " ".join(value)


def _name(action) -> str:
    if not action.option_strings:
        return f"`{_positional(action)}`"
    value = "" if action.nargs == 0 else f" {_value(action)}"
    return ", ".join(f"`{option}{value}`" for option in reversed(action.option_strings)).replace("|", "\\|")


def _help(action) -> str:
    text = (action.help or "").replace("|", "\\|").replace("<", "&lt;")
    plain = isinstance(action.default, str | int | float) and not isinstance(action.default, bool)
    if action.option_strings and plain and action.default != 0 and "default" not in text:
        text = f"{text}{'; ' if text else ''}default: {action.default}"
    required = action.option_strings and action.required
    return f"{text} (required)" if required else text


def _dedent(text: str) -> str:
    return "\n".join(line.removeprefix("  ") for line in text.splitlines())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
