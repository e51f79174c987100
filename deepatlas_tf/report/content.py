"""The report of a run: which tables and pictures it has, and what it says where something is not there yet."""

import json
import math

from deepatlas_tf.datasets.load import DataSet
from deepatlas_tf.evaluation.figures import spoken
from deepatlas_tf.evaluation.summary import remarks
from deepatlas_tf.messages import progress
from deepatlas_tf.report import pictures, tables
from deepatlas_tf.report.cases import Applied, Case, chosen_cases, evaluated_split
from deepatlas_tf.report.document import Block, Document, Folded, Heading, Paragraph
from deepatlas_tf.report.unmeasured import training_scans
from deepatlas_tf.runs.folder import TASKS
from deepatlas_tf.runs.summary import TRIAL_STEPS, RunSummary
from deepatlas_tf.types import DataError, SettingError

NO_TEST_SUBJECTS = "There are no test subjects"


def report_of(run: RunSummary, dataset: DataSet | None = None, split: str | None = None, no_data: str = "") -> Document:
    """The whole report.

    Args:
        run: of the run.
        dataset: the run's :class:`~deepatlas_tf.datasets.load.DataSet`; None leaves out the pictures of scans.
        split: that the evaluation has to be of; None takes what there is.
        no_data: why there is no data set, in words.

    Raises:
        SettingError: the evaluation is of another split.
    """
    found = evaluated_split(run, dataset) if dataset is not None else None
    if split and dataset is not None and run.evaluated and found != split:
        there = f"the {found} split" if found else "subjects that the data set does not have"
        raise SettingError(f"{run.path}/evaluation is of {there}: first deepatlas evaluate {run.path} --split {split}")
    blocks = [*_run(run), *_results(run, found)]
    blocks += [Heading("Training"), tables.stages(run), tables.key_settings(run)]
    blocks += pictures.curves(run) + pictures.pseudo_masks(run)
    if run.evaluated:
        blocks += _cases(run, dataset, found, no_data)
    elif run.shows_scans:
        blocks += training_scans(run, dataset, no_data)
    return Document(f"{run.path.resolve().name}: {run.dataset}", blocks)


def missing(run: RunSummary) -> list[str]:
    """What the run does not have yet, in sentences; empty for one that is finished and evaluated."""
    found = []
    unfinished = [f"{stage.name} ({stage.state})" for stage in run.stages if not stage.finished]
    if unfinished:
        found.append(f"The run is not finished. Not finished: {'; '.join(unfinished)}.")
    if not run.evaluated:
        done = any(stage.finished for stage in run.stages)
        how = f"deepatlas evaluate {run.path}" if done else "once a stage is finished: deepatlas evaluate"
        why = NO_TEST_SUBJECTS if run.without_test else f"Nothing is evaluated yet ({how})"
        found.append(f"{why}: no table of results, box plots, cases and volumes.")
    if not run.about:
        found.append("There is no model.json: run the training command again, which adds it.")
    return found


def _run(run: RunSummary) -> list[Block]:
    blocks: list[Block] = [Heading("The run"), *(Paragraph(text, notice=True) for text in missing(run))]
    if run.about.get("synthetic"):
        blocks.append(Paragraph("The images are synthetic: nothing here tells how the method does on real scans."))
    if run.is_trial:
        blocks.append(Paragraph(f"A trial: no stage has more than {TRIAL_STEPS} steps (--tiny).", notice=True))
    whole = Folded("All settings", json.dumps(run.record, indent=2), tables.all_settings(run))
    return [*blocks, tables.overview(run), whole]


def _results(run: RunSummary, split: str | None) -> list[Block]:
    blocks: list[Block] = [Heading("Results")]
    if not run.evaluated:
        why = NO_TEST_SUBJECTS if run.without_test else "Not evaluated yet"
        return [*blocks, Paragraph(f"{why}.", notice=True)]
    blocks.append(Paragraph(f"Measured on {_counts(run)}{f' of the {split} split' if split else ''}."))
    blocks += [tables.comparison(run), *tables.own_grids(run)]
    blocks += [Paragraph(text, notice=True) for text in remarks(tables.summary_of(run))]
    for task in TASKS:
        if any(not math.isnan(row["dice"]) for row in run.rows[task]):  # without labels there is none
            blocks += [tables.dice_by_class(run, task), pictures.boxes(run, task)]
    return blocks


def _counts(run: RunSummary) -> str:
    subjects = len({row["subject"] for row in run.rows["segmentation"]})
    pairs = len({(row["moving"], row["fixed"]) for row in run.rows["registration"]})
    parts = [f"{subjects} subjects" if subjects else "", f"{pairs} pairs of subjects" if pairs else ""]
    return " and ".join(filter(None, parts))


def _cases(run: RunSummary, dataset: DataSet | None, split: str | None, no_data: str) -> list[Block]:
    """Best, median and worst; a paragraph in their place where the scans or the networks are not there."""
    heading = Heading("Cases")
    if dataset is None:
        return [heading, Paragraph(f"No pictures of cases: {no_data}", notice=True)]
    if split is None:
        return [heading, Paragraph("No pictures of cases: the data set does not have these subjects.", notice=True)]
    stages = [stage.name for stage in run.stages]
    chosen = {task: chosen_cases(run.rows[task], stages) for task in TASKS}
    try:
        applied = Applied(run, dataset, split, [case for _, cases in chosen.values() for case in cases])
    except DataError as error:  # the networks were deleted, or are damaged
        return [heading, Paragraph(f"No pictures of cases: {error}", notice=True)]
    name = f"{run.dataset}, {split} split"
    return [
        heading,
        *_segmentations(*chosen["segmentation"], applied, name),
        *_registrations(*chosen["registration"], applied, name),
    ]


def _segmentations(method: str | None, cases: list[Case], applied: Applied, name: str) -> list[Block]:
    labels = [applied.label_maps(case) for case in cases]
    if not labels or not all(labels):
        return []
    blocks: list[Block] = [Paragraph(f"Segmentations, chosen by the mean Dice of {spoken(method or '')}.")]
    for case, found in zip(progress(cases, desc="drawing segmentations"), labels, strict=True):
        blocks.append(pictures.segmented(case, found, applied, name))
    return [*blocks, tables.volume_table(cases, labels, applied)]


def _registrations(method: str | None, cases: list[Case], applied: Applied, name: str) -> list[Block]:
    blocks: list[Block] = []
    for case in progress(cases, desc="drawing registrations"):
        fields = applied.fields(case)
        blocks += pictures.registered(case, fields, applied, name) if fields else []
    text = f"Registrations, chosen by the mean Dice of {spoken(method or '')}."
    return [Paragraph(text), *blocks] if blocks else []
