"""Everything that the peers predicted, measured with the package's own code, beside the rows of the run."""

from types import SimpleNamespace

import numpy as np
from peers.folder import pairs_of, read_volume
from peers.score import about_pairs, sample

from deepatlas_tf.evaluation.evaluate import class_rows, field_rows
from deepatlas_tf.evaluation.summary import DERIVED, summarise_rows
from deepatlas_tf.runs.files import read_rows
from deepatlas_tf.runs.folder import TASKS
from deepatlas_tf.types import DataError
from joint.folder import JointFolder
from joint.given import Trained

MEASURES = ("dice", "hd95_mm", "assd_mm", "folds_percent", "sdlogj")


def result(folder: JointFolder) -> tuple[dict, list[dict]]:
    """What is kept of the test scans and pairs, as plain JSON types, and its rows: task, method, case, class, measures.

    Raises:
        DataError: if the scans are not written, or a finished training of a peer has not predicted yet.
    """
    ours = folder.stored(folder.ours_file)
    if not ours:
        raise DataError(f"{folder.path}: the scans and the run's results are not all there; write them first")
    about = folder.about()
    rows = {task: read_rows(folder.our_rows_file(task)) for task in TASKS}
    trained = folder.given.all_trained()
    for one in trained:
        if not one.record("predict"):
            raise DataError(f"{folder.path}: {one.method} has not predicted the test scans yet; predict them first")
        rows["segmentation"] += segmentation_rows(folder, about, one)
        rows["registration"] += registration_rows(folder, about, one)
    summary = summarise_rows(rows["segmentation"], rows["registration"], about["class_names"][1:])
    peers = {one.method: one for one in trained}
    order = list(peers)
    methods = {
        method: {**summary[method], **(_about_peer(peers[method]) if method in peers else _about_ours(ours, method))}
        for method in sorted(summary, key=lambda method: order.index(method) if method in peers else -1)
    }
    run = {name: ours[name] for name in ("run", "trained_at", "minutes", "stages", "curves")}
    given = folder.given.about()
    labels = {"labelled": len(given["labelled"]), "training_scans": len(given["scans"]["train"])}
    found = {**about_pairs(about), **labels, "seed": given["seed"], "run": run, "methods": methods}
    return found, [_kept(task, row) for task in TASKS for row in rows[task]]


def segmentation_rows(folder: JointFolder, about: dict, trained: Trained) -> list[dict]:
    """The rows of the label maps of the test scans, as in ``segmentation.csv``."""
    rows = []
    for name in folder.given.about()["scans"]["test"]:
        truth = sample(folder, about, name)
        start = {"method": trained.method, "subject": truth["subject"].decode()}
        prediction = read_volume(trained.segmentation_file(name)).astype(np.int32)
        rows += class_rows(start, prediction, truth["label"], truth["label_weight"], _dataset(about))
    return rows


def registration_rows(folder: JointFolder, about: dict, trained: Trained) -> list[dict]:
    """The rows of the fields of the test pairs, as in ``registration.csv``; none of a peer that does not register."""
    rows = []
    for pair in pairs_of(about, "test"):
        path = trained.field_file(pair["pair"])
        if path.exists():
            moving, fixed = (sample(folder, about, pair[side]) for side in ("moving", "fixed"))
            with np.load(path) as file:
                rows += field_rows(trained.method, moving, fixed, file["u"], _dataset(about))
    return rows


def _dataset(about: dict) -> SimpleNamespace:
    return SimpleNamespace(class_names=tuple(about["class_names"]), spacing=tuple(about["spacing"]))


def _about_peer(trained: Trained) -> dict:
    train, predict = trained.record("train"), trained.record("predict")
    curve = {"validation": read_rows(trained.curve_file)} if trained.curve_file.exists() else {}
    return {
        "ours": False,
        "minutes": round(train["seconds"] / 60, 2),
        "seconds": predict["seconds"],
        "peak_bytes": {"train": train["peak_bytes"], "predict": predict["peak_bytes"]},
        "training": train | curve,
    }


def _about_ours(ours: dict, method: str) -> dict:
    """Seconds are those of the networks alone: what is refined or voted for at test time has none."""
    stage = DERIVED.sub("", method)
    seconds = {task: ours["seconds"][task].get(method) for task in TASKS}
    return {"ours": True, "minutes": ours["stages"].get(stage), "seconds": seconds, "peak_bytes": {}}


def _kept(task: str, row: dict) -> dict:
    case = row["subject"] if task == "segmentation" else f"{row['moving']} to {row['fixed']}"
    measures = {name: row.get(name, np.nan) for name in MEASURES}
    return {"task": task, "method": row["method"], "case": case, "class": row["class"], **measures}
