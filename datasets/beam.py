"""Preparing a data set on many machines: the Beam pipeline behind TFDS, and what a user sees of its errors.

Apache Beam is the extra ``[beam]`` and imported only where its options are given.
"""

import contextlib
import functools
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.types import DataError, MissingDataError, SettingError

# A runner passes an error of a worker on as text, somewhere in a traceback.
_SYSTEM_ERROR = re.compile(r"^\w*Error: \[Errno (\d+)\] [^:\n]*(?:: '([^'\n]*)')?", re.MULTILINE)
_REPORT = "bad-scans-{}.txt"


def package() -> Any:
    """The module ``apache_beam``; MissingDataError says how to get it."""
    try:
        import apache_beam
    except ImportError as error:
        raise MissingDataError(f"Beam options need Apache Beam ({error}): pip install -e '.[beam]'") from None
    return apache_beam


def pipeline_options(text: str) -> Any:
    """Beam's options from ``"runner=DirectRunner,direct_num_workers=2"``, as ``tfds build`` takes them.

    Raises SettingError for anything else, MissingDataError without Beam.
    """
    flags = text.split(",")
    if not all(re.match(r"[a-z]\w*(=.+)?$", flag) for flag in flags):
        raise SettingError(f"Beam options are name=value,name=value, not {text!r}")
    module = package().options.pipeline_options
    options = module.PipelineOptions(flags=[f"--{flag}" for flag in flags])
    workers = options.view_as(module.WorkerOptions)
    workers.default_sdk_harness_log_level = workers.default_sdk_harness_log_level or "ERROR"
    return options


def examples(folder: str, name: str, subjects: Sequence[str], example: Callable[[int, str], tuple[int, dict]]) -> Any:
    """A PTransform that makes the (key, record) of each subject and its index, wherever a worker is free.

    A DataError stops no worker: all bad scans are found and written to ``folder``, where ``plain_errors`` reads them in
    the order of ``name``.
    """
    beam = package()
    report = os.path.join(folder, _REPORT.format(name))

    @beam.ptransform_fn
    def made(pipeline):
        attempts = (
            pipeline
            | "subjects" >> beam.Create(list(enumerate(subjects)))
            # reshuffled: else a runner may keep all subjects in the one worker that listed them
            | "spread" >> beam.Reshuffle()
            # the types are said because Beam would take a key for a number of 64 bits
            | "record" >> beam.Map(functools.partial(_attempt, example)).with_output_types(tuple[Any, Any])
        )
        bad = attempts | "bad" >> beam.Filter(_is_bad) | "bad together" >> beam.combiners.ToList()
        _ = bad | "report" >> beam.Map(_write, report)
        return attempts | "good" >> beam.Filter(lambda attempt: not _is_bad(attempt))

    return made()


@contextlib.contextmanager
def plain_errors(folder: str) -> Iterator[None]:
    """Errors of the workers as they would be in this process: a DataError of one line, an OSError with its file.

    What else goes wrong is raised as Beam does, with the tracebacks of the workers.
    """
    logger = logging.getLogger("apache_beam")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # it would print the tracebacks too
    try:
        yield
    except Exception as error:
        _raise_report(folder)
        found = _SYSTEM_ERROR.findall(str(error))
        if not found:
            raise
        number, file = found[-1]
        raise OSError(int(number), os.strerror(int(number)), file or folder) from None
    finally:
        logger.setLevel(level)
    _raise_report(folder)


def _attempt(example: Callable[[int, str], tuple[int, dict]], numbered: tuple[int, str]) -> tuple[int, dict | str]:
    """(key, record), or (index, what is wrong with the scan)."""
    try:
        return example(*numbered)
    except DataError as error:
        return numbered[0], str(error)


def _is_bad(attempt: tuple[int, dict | str]) -> bool:
    return isinstance(attempt[1], str)


def _write(bad: list[tuple[int, str]], report: str) -> None:
    if bad:
        with tf.io.gfile.GFile(report, "w") as file:
            file.write("\n".join(message for _, message in sorted(bad)))


def _raise_report(folder: str) -> None:
    messages = []
    for report in sorted(tf.io.gfile.glob(os.path.join(folder, _REPORT.format("*")))):
        with tf.io.gfile.GFile(report) as file:
            messages += file.read().splitlines()
    if messages:
        others = f" (and {len(messages) - 1} more like it)" if messages[1:] else ""
        raise DataError(messages[0] + others) from None
