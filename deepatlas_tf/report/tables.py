"""The tables of a report: what was run, how far it is, what came out."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from deepatlas_tf.evaluation.figures import spoken
from deepatlas_tf.evaluation.summary import COLUMNS, method_order, summarise_rows
from deepatlas_tf.messages import spoken_time
from deepatlas_tf.metrics.overlap import checked_labels
from deepatlas_tf.report.cases import Applied, Case, volumes
from deepatlas_tf.report.document import Table
from deepatlas_tf.runs.selection import tasks_without_gain
from deepatlas_tf.runs.summary import RunSummary
from deepatlas_tf.scans.channels import ONE


def overview(run: RunSummary) -> Table:
    """Data, labels, seed, versions."""
    data, about = run.settings["data"], run.about
    kinds = {True: "synthetic: made by a program, no patient's scan", False: "scans", None: "not recorded"}
    rows = [
        ("run", str(run.path)),
        ("data set", about.get("dataset", data["dataset"])),
        ("kind of data", kinds[about.get("synthetic")]),
        ("subjects", _subjects(run.data)),
        ("label maps used in training", run.labels),
        ("seed", str(run.settings.get("seed", "-"))),
        ("grid", _grid(about)),
        ("channels", ", ".join(about.get("channel_names", ONE))),
        ("classes", ", ".join(map(spoken, run.class_names)) or "-"),
        ("domains", " and ".join(data.get("domains") or ()) or "one"),
        ("networks", _networks(run.settings.get("networks", {}))),
        ("versions", ", ".join(f"{name} {version}" for name, version in run.record.get("versions", {}).items())),
        ("git commit", run.record.get("git_commit") or "none"),
    ]
    return Table("What was run", [("of the run", "value"), *rows])


def stages(run: RunSummary) -> Table:
    """How far each stage is, and the best that validation has measured."""
    heading = ("stage", "method", "state", "steps", "segmentation Dice", "registration Dice", "training time")
    rows = []
    for stage in run.stages:
        done = stage.rows[-1]["step"] if stage.rows else 0
        best = [_number(stage.best(f"val_{task}_dice"), 3) for task in ("segmentation", "registration")]
        seconds = spoken_time(sum(row.get("seconds", 0) for row in stage.rows))
        steps = f"{done} of {stage.settings['steps']}"
        rows.append((stage.name, stage.settings["method"], stage.state, steps, *best, seconds if stage.rows else "-"))
    kept = [
        f"{spoken(stage.name)}: no epoch was better in {' and '.join(tasks)} than the start, which is kept."
        for stage in run.stages
        if stage.finished and (tasks := tasks_without_gain(stage.start, stage.rows))
    ]
    note = "Dice: the best of the start and the epochs, on the validation subjects."
    return Table("Stages", [heading, *rows], " ".join([note, *kept]))


def key_settings(run: RunSummary) -> Table:
    """A row for each kind of update: what it minimises; the rest is in experiment.json."""
    rows = [("stage", "update", "in a cycle", "learning rate", "terms of the loss, with their weights")]
    for stage in run.stages:
        s = stage.settings
        for turn, count in s.get("turns", {}).items():
            if count:
                terms = {t: w for t, w in s.get("weights", {}).get(turn, {}).items() if w}
                named = {f"{t} ({s.get('similarity')})" if t == "similarity" else t: w for t, w in terms.items()}
                rate = s.get("learning_rates", {}).get(turn)
                rows.append((stage.name, spoken(turn), str(count), "-" if rate is None else f"{rate:g}", _pairs(named)))
    starts = [
        f"{stage.name} starts from {', '.join(dict.fromkeys(sources))}."
        for stage in run.stages
        if (
            sources := [*stage.settings.get("start_from", {}).values(), *stage.settings.get("pseudo_from", {}).values()]
        )
    ]
    seeing = [
        f"{stage.name} registers with the anatomy that {source} predicts."
        for stage in run.stages
        if (source := stage.settings.get("anatomy_from"))
    ]
    return Table("Losses", rows, " ".join([*starts, *seeing]))


def all_settings(run: RunSummary) -> Table:
    """The content of experiment.json; a setting that stages have different values of names them."""
    settings = {name: value for name, value in run.settings.items() if name != "stages"}
    rows = list(_leaves(settings))
    of_stages = {stage.name: dict(_leaves(stage.settings)) for stage in run.stages}
    for name in dict.fromkeys(name for found in of_stages.values() for name in found if name != "name"):
        values = {stage: found[name] for stage, found in of_stages.items() if name in found}
        if len(values) == len(of_stages) and len(set(values.values())) == 1:
            rows.append((f"stages: {name}", next(iter(values.values()))))
        else:
            rows.append((f"stages: {name}", "; ".join(f"{stage} {value}" for stage, value in values.items())))
    return Table("Settings of experiment.json", [("setting", "value"), *rows])


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, value) of each value within dictionaries, as text; empty ones are left out."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _leaves(value, f"{path}.{name}" if path else name)
    else:
        yield path, node if isinstance(node, str) else json.dumps(node)


def summary_of(run: RunSummary) -> dict:
    """The means of the run's last evaluation by method, task and measure."""
    return summarise_rows(run.rows["segmentation"], run.rows["registration"], run.class_names)


def comparison(run: RunSummary) -> Table:
    """A row for each method: the means over the classes."""
    note = "Means over the classes without the background. Dice: 1 is best. HD95 and Hausdorff, in mm, and folds: 0."
    return Table("All methods", _means(summary_of(run), COLUMNS), note)


def own_grids(run: RunSummary) -> list[Table]:
    """The stages that segment, measured on the scans' own grids; none of a run without a stage of full resolution."""
    rows = run.folder.table("segmentation_own_grid")
    if not rows:
        return []
    columns = [column for column in COLUMNS if column[1] == "segmentation"]
    means = _means(summarise_rows(rows, [], run.class_names), columns)
    return [Table("Segmentation on the scans' own grids", means, "Means over the classes, as above.")]


def _means(summary: dict, columns: Sequence[tuple[str, str, str, int]]) -> list[Sequence[str]]:
    """A heading, and a row for each method with the means of the columns."""
    rows: list[Sequence[str]] = [("method", *(heading for heading, *_ in columns))]
    for method in method_order(summary):
        values = [summary[method].get(task, {}).get(measure, {}).get("mean") for _, task, measure, _ in columns]
        rows.append((spoken(method), *(_number(v, column[3]) for v, column in zip(values, columns, strict=True))))
    return rows


def dice_by_class(run: RunSummary, task: str) -> Table:
    """A row a class, a column a method."""
    rows = run.rows[task]
    methods = method_order(row["method"] for row in rows)
    lines = [("class", *map(spoken, methods))]
    for name in run.class_names:
        found = [[r["dice"] for r in rows if r["method"] == m and r["class"] == name] for m in methods]
        lines.append((spoken(name), *map(_spread, found)))
    cases = "subjects" if task == "segmentation" else "pairs"
    return Table(f"{task.capitalize()} Dice by class", lines, f"Mean and standard deviation over the {cases}.")


def volume_table(cases: Sequence[Case], labels: Sequence[Mapping[str, np.ndarray]], applied: Applied) -> Table:
    """Volume of each class in the manual label map and in that of the last method."""
    dataset, n_classes = applied.dataset, len(applied.dataset.class_names)
    unit = "ml" if len(dataset.spacing) == 3 else "cm2"
    rows: list[Sequence[str]] = [("case", "class", f"manual {unit}", f"predicted {unit}", "difference %")]
    for case, found in zip(cases, labels, strict=True):
        sample = applied.samples[case.subjects[0]]
        compared = checked_labels(sample["label"], list(found.values())[-1], n_classes)  # without ignored voxels
        manual, predicted = (volumes(label, n_classes, dataset.spacing) for label in compared)
        for index, name in enumerate(dataset.class_names[1:]):
            if sample["label_weight"][index + 1] > 0:
                change = 100 * (predicted[index] / manual[index] - 1) if manual[index] else None
                size = (f"{volume[index]:.4g}" for volume in (manual, predicted))
                cell = "-" if change is None else f"{change:+.1f}"
                rows.append((f"{case.rank}: {case.subjects[0]}", spoken(name), *size, cell))
    method = spoken(list(labels[0])[-1])
    return Table(f"Volumes, predicted by {method}", rows, "On the network's grid, which may crop a scan.")


def _subjects(data: Mapping[str, Any] | None) -> str:
    if data is None:
        return "not recorded"
    labelled = data.get("labelled")  # which earlier versions did not record
    notes = {split: f" ({len(labelled[split])} with a label map)" if labelled else "" for split in data["subjects"]}
    return ", ".join(f"{len(subjects)} {split}{notes[split]}" for split, subjects in data["subjects"].items())


def _grid(about: dict) -> str:
    if "shape" not in about:
        return "not recorded"
    sizes = " x ".join(f"{size:g}" for size in about["spacing"])
    return f"{' x '.join(map(str, about['shape']))} voxels of {sizes} mm"


def _networks(networks: dict) -> str:
    kinds = [f"{task} {networks[task]['name']}" for task in ("registration", "segmentation") if task in networks]
    diffeomorphic = networks.get("registration", {}).get("diffeomorphic")
    return ", ".join([*kinds, *(["diffeomorphic"] if diffeomorphic else [])]) or "not recorded"


def _pairs(values: Mapping) -> str:
    return (
        ", ".join(
            f"{spoken(str(k))} {v:g}" if isinstance(v, float) else f"{spoken(str(k))} {v}" for k, v in values.items()
        )
        or "-"
    )


def _spread(values: Iterable[float]) -> str:
    defined = np.array([v for v in values if not np.isnan(v)])
    return f"{defined.mean():.3f} ± {defined.std():.3f}" if defined.size else "-"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
