"""How much a command says, what its errors look like, and the completion of its words."""

import os
import subprocess
import sys

import pytest

from deepatlas_tf import messages
from deepatlas_tf.cli import command_names, explained, main
from deepatlas_tf.types import DataError, DivergedError, MissingDataError, SettingError


@pytest.mark.parametrize(
    ("level", "out", "err"),
    [(messages.QUIET, "", ""), (messages.NORMAL, "done\n", ""), (messages.VERBOSE, "done\n", "read a\n")],
)
def test_levels(level, out, err, capsys):
    before = messages.level()
    messages.set_level(level)
    try:
        messages.say("done")
        messages.detail("read a")
        assert messages.progress([1]).disable  # there is no terminal
    finally:
        messages.set_level(before)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == (out, err)


@pytest.mark.parametrize("name", command_names())
def test_every_command_has_both_options(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*name.split("_"), "--help"])
    printed = capsys.readouterr().out
    assert stopped.value.code == 0 and "-q, --quiet" in printed and "-v, --verbose" in printed


def test_quiet_and_verbose_exclude_each_other(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["methods", "-q", "-v"])
    assert stopped.value.code == 2 and "not allowed with" in capsys.readouterr().err


def test_verbose_says_where_an_error_comes_from(tmp_path, capsys):
    assert main(["evaluate", str(tmp_path), "-v"]) == 1
    loud = capsys.readouterr().err
    assert "Traceback" in loud and loud.rstrip().splitlines()[-1].startswith("error: ")
    assert main(["evaluate", str(tmp_path)]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert messages.level() == messages.NORMAL


@pytest.mark.parametrize(
    ("error", "text", "status"),
    [
        (DataError("subject a"), "error: subject a", 1),
        (DivergedError("step 3"), "error: step 3", 1),
        (SettingError("a.b"), "error: a.b", 2),
        (MissingDataError("get it\nthere"), "error: get it\nthere", 2),
        (PermissionError(13, "Permission denied", "/x/y"), "error: cannot read or write /x/y: Permission denied", 1),
        (MemoryError(), "error: there is not enough memory", 1),
        (RuntimeError("x\ndeepatlas_tf.types.DataError: subject a: bad\nTraceback:\n y"), "error: subject a: bad", 1),
    ],
)
def test_errors_are_one_line(error, text, status):
    found = explained(error)
    assert found[0].startswith(text) and found[1] == status


def test_a_fault_of_the_program_is_not_hidden(monkeypatch):
    def fault(args):
        raise KeyError("x")

    assert explained(KeyError("x")) == (None, 1)
    monkeypatch.setattr("deepatlas_tf.commands.methods.run", fault)
    with pytest.raises(KeyError):
        main(["methods"])


def test_the_shell_completes_commands_and_options(tmp_path):
    pytest.importorskip("argcomplete")
    for line, expected in (("deepatlas seg", {"segment"}), ("deepatlas report --ov", {"--overwrite"})):
        answer = tmp_path / "answer"
        variables = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"}
        variables |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(answer), "_ARGCOMPLETE_SUPPRESS_SPACE": "1"}
        subprocess.run(
            [sys.executable, "-m", "deepatlas_tf"], env={**os.environ, **variables}, check=True, capture_output=True
        )
        assert {word.strip() for word in answer.read_text().splitlines()} == expected


@pytest.mark.parametrize("factor", ["0", "-2", "inf", "nan", "fast"])
def test_a_run_takes_some_steps(factor, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", f"--steps-scale={factor}"])
    assert stopped.value.code == 2 and f"a number above 0 is needed, not {factor}" in capsys.readouterr().err
