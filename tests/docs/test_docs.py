"""What the README and the pages of docs/ show: commands that the program takes, names and files that are there."""

import argparse
import ast
import contextlib
import importlib
import importlib.util
import io
import json
import re
import shlex
from pathlib import Path

import pytest

import deepatlas_tf
from deepatlas_tf import cli
from deepatlas_tf.commands.train import experiment_options
from deepatlas_tf.experiments import experiment_names
from deepatlas_tf.losses.similarity import SIMILARITIES
from deepatlas_tf.methods import method_names
from deepatlas_tf.run import make_experiment
from deepatlas_tf.training.experiment import Experiment
from deepatlas_tf.types import SettingError

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "datasets").glob("*/README.md"))]
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?<![\w./`-])(?:deepatlas (?=[a-z])|python -m deepatlas_tf(?:\.train)? )")
LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)")
PLACEHOLDER = re.compile(r"^[A-Z]+$|my_method")  # DATA, NAME, COMMAND
NOT_SHELL = {"text", "python", "json", "yaml"}


def blocks(markdown: str) -> list[tuple[str, str]]:
    """(language, code) of the fenced and of the indented code blocks."""
    fenced = [(match[2], match[3]) for match in FENCE.finditer(markdown)]
    indented = re.findall(r"(?:^ {4}[^\n]*\n)+", FENCE.sub("", markdown), re.MULTILINE)
    return fenced + [("", block) for block in indented]


def commands(markdown: str) -> list[str]:
    """Each call of the program in a code block, on one line."""
    shell = (code for language, code in blocks(markdown) if language not in NOT_SHELL)
    lines = (line for code in shell for line in re.sub(r"\\\n\s*", " ", code).splitlines())
    return [line[match.start() :] for line in lines for match in COMMAND.finditer(line)]


def argv(command: str) -> list[str]:
    """The words of a call, without what follows it in the shell; variables are numbers."""
    text = re.sub(r"\$\w+", "1", command)
    if text.count("'") % 2:  # the end of a quoted command
        text = text.rpartition("'")[0]
    words = shlex.shlex(text, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    found = []
    for word in words:
        if set(word) <= set(";&|()<>"):
            break
        found.append(word)
    return found[1:] if found[0] == "deepatlas" else [*(["train"] if found[2].endswith(".train") else []), *found[3:]]


def parsed(words: list[str]) -> argparse.Namespace:
    """The options of a call; AssertionError with the parser's words where it does not take them."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            return cli._parser().parse_args(cli._hyphens(words))
    except SystemExit as end:
        assert end.code == 0, f"{' '.join(words)}\n{errors.getvalue()}"
        return argparse.Namespace()  # --help


def every(found) -> list:
    return [pytest.param(page, x, id=f"{page.relative_to(ROOT)}: {x}") for page in PAGES for x in found(page)]


def texts(found):
    return lambda page: list(dict.fromkeys(found(page.read_text(encoding="utf-8"))))


@pytest.mark.parametrize(("page", "command"), every(texts(commands)))
def test_the_program_takes_the_command(page, command):
    args = parsed(argv(command))
    if not hasattr(args, "steps_scale") or args.config:
        return
    if PLACEHOLDER.search(args.dataset or "") or PLACEHOLDER.search(args.method or ""):
        return
    assert isinstance(make_experiment(**experiment_options(args)), Experiment)  # its settings are there too


@pytest.mark.parametrize("name", experiment_names())
def test_header_of_an_experiment(name):
    """Its command, and the scores with the folder of raw results, or that there are none."""
    header = importlib.import_module(f"deepatlas_tf.experiments.{name}").__doc__
    found = [argv(command) for command in commands(header + "\n")]
    assert found
    for words in found:
        assert isinstance(make_experiment(**experiment_options(parsed(words))), Experiment)
    results = [ROOT / path for path in re.findall(r"``(benchmarks/results/[\w-]+)``", header)]
    if not results:
        assert "Time and scores: not measured" in header
        return
    means = set()
    for folder in results:
        for tasks in json.loads((folder / "summary.json").read_text(encoding="utf-8")).values():
            means |= {f"{task['dice']['mean']:.3f}".lstrip("0") for task in tasks.values() if task}
    scores = re.findall(r"(?<![\d\w])\.\d{3}\b", header)
    assert len(scores) >= 4 and set(scores) <= means


def test_commands_are_found():
    markdown = """
```bash
deepatlas methods  # all
for s in 0 1; do deepatlas train --seed $s --set "data.shape=(1, 2)"; done
python -m deepatlas_tf.train --workdir runs/a && true
```

    deepatlas warp a.nii \\
      --field b.nii -o c.nii
    deepatlas export runs/a -o b --stage deepatlas --version 3

Not `deepatlas nothing`.
"""
    assert [argv(command) for command in commands(markdown)] == [
        ["methods"],
        ["train", "--seed", "1", "--set", "data.shape=(1, 2)"],
        ["train", "--workdir", "runs/a"],
        ["warp", "a.nii", "--field", "b.nii", "-o", "c.nii"],
        ["export", "runs/a", "-o", "b", "--stage", "deepatlas", "--version", "3"],
    ]


@pytest.mark.parametrize("words", [["train", "--label", "five"], ["segment", "a.nii"], ["nothing"]])
def test_a_wrong_command_is_caught(words):
    with pytest.raises(AssertionError):
        parsed(words)


def test_a_wrong_setting_is_caught():
    with pytest.raises(SettingError):
        make_experiment(**experiment_options(parsed(["train", "--set", "stages.deepatlas.smoothness=1"])))


def mentions(markdown: str) -> list[str]:
    """Commands in running text, which may lack their arguments."""
    return re.findall(r"(?<!`)`(deepatlas [a-z][^`]*)`", FENCE.sub("", markdown))


@pytest.mark.parametrize(("page", "mention"), every(texts(mentions)))
def test_mentioned_commands_and_options_exist(page, mention):
    parser, words = cli._parser(), mention.split()[1:]
    while groups := [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]:
        if not words or PLACEHOLDER.search(words[0]):
            return
        word = words.pop(0)
        assert word in groups[0].choices, f"{page.name}: {mention}"
        parser = groups[0].choices[word]
    options = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    assert options <= set(parser._option_string_actions), f"{page.name}: {mention}"


def test_the_page_of_the_commands_is_that_of_the_program():
    spec = importlib.util.spec_from_file_location("docs_tools_commands", ROOT / "docs" / "tools" / "commands.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run: python docs/tools/commands.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    missing = [path for path in LINK.findall(text) if ":" not in path and not (page.parent / path).exists()]
    assert not missing


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) < 900


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [str(page.relative_to(ROOT / "docs")) for page in PAGES if page.is_relative_to(ROOT / "docs")]
    assert "concepts.md" in pages
    assert [page for page in pages if not re.search(rf": {re.escape(page)}$", navigation, re.MULTILINE)] == []


def test_python_examples_import_what_is_there():
    checked = set()
    for page in PAGES:
        for language, code in blocks(page.read_text(encoding="utf-8")):
            for node in ast.walk(ast.parse(code)) if language == "python" else ():
                if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "deepatlas_tf":
                    module = importlib.import_module(node.module)
                    checked |= {alias.name for alias in node.names if hasattr(module, alias.name)}
                    assert all(hasattr(module, alias.name) for alias in node.names), f"{page}: {ast.unparse(node)}"
    assert "register_scans" in checked


def test_public_names_methods_and_similarities_are_documented():
    api = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "api").glob("*.md"))
    methods = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    assert [name for name in deepatlas_tf.__all__ if f"`{name}`" not in api] == []
    assert [name for name in method_names() if name not in methods] == []
    assert [name for name in SIMILARITIES if f"| `{name}` |" not in methods] == []
