"""Every field of a folder measured with the package's own code: the choice of settings, and the result."""

from types import SimpleNamespace

import numpy as np

from deepatlas_tf.evaluation.evaluate import field_rows
from deepatlas_tf.evaluation.summary import summarise_rows
from deepatlas_tf.runs.predict import IDENTITY
from deepatlas_tf.types import DataError
from peers.folder import PeersFolder, pairs_of, read_volume, write_json
from peers.ours import OURS
from peers.settings import METHODS


def choose(folder: PeersFolder) -> dict[str, str]:
    """Write, for each peer, the setting with the best mean Dice on the validation pairs, and the scores of all.

    A setting that failed on a pair is not chosen. A method of which none is complete is left out.
    """
    choice, validation = {}, {}
    for method in METHODS:
        validation[method] = validation_scores(folder, method)
        scores = {name: found["dice"] for name, found in validation[method].items() if found["dice"] is not None}
        if scores:
            choice[method] = max(scores, key=scores.get)
    if not choice:
        raise DataError(f"{folder.path}: no peer has a field for every validation pair; run the peers first")
    write_json(folder.validation_file, validation)
    write_json(folder.choice_file, choice)
    return choice


def validation_scores(folder: PeersFolder, method: str) -> dict[str, dict]:
    """Setting -> mean ``dice`` and median ``seconds`` on the validation pairs; None for one that is not complete."""
    about, found = folder.about(), {}
    for setting in METHODS[method].settings:
        measured = measure(folder, about, method, setting, "validation")
        found[setting] = {
            "dice": measured and measured["summary"]["dice"]["mean"],
            "seconds": measured and seconds(measured)["median"],
        }
    return found


def measure(folder: PeersFolder, about: dict, method: str, setting: str, split: str) -> dict | None:
    """Rows, their summary, and the numbers stored with each field; None where a pair has no field."""
    dataset = SimpleNamespace(class_names=tuple(about["class_names"]), spacing=tuple(about["spacing"]))
    rows, numbers = [], []
    for pair in pairs_of(about, split):
        if method == IDENTITY:
            u, stored = np.zeros((*about["shape"], 3), np.float32), {}
        else:
            path = folder.field_file(method, setting, pair["pair"])
            if not path.exists():
                return None
            with np.load(path) as file:
                stored = {name: float(file[name]) for name in file.files if name != "u"}
                u = file["u"]
        moving, fixed = (sample(folder, about, pair[side]) for side in ("moving", "fixed"))
        rows += field_rows(method, moving, fixed, u, dataset)
        numbers.append(stored)
    summary = summarise_rows([], rows, dataset.class_names[1:])[method]["registration"]
    return {"rows": rows, "summary": summary, "numbers": numbers}


def seconds(measured: dict, name: str = "seconds") -> dict:
    """Median and quartiles of a number over the pairs; None where it was not measured."""
    values = [stored[name] for stored in measured["numbers"] if name in stored]
    if not values:
        return {"median": None, "quartiles": None}
    low, median, high = (round(float(value), 4) for value in np.percentile(values, [25, 50, 75]))
    return {"median": median, "quartiles": [low, high]}


def result(folder: PeersFolder) -> tuple[dict, list[dict]]:
    """What is kept of the test pairs, as plain JSON types, and its rows, one for each pair, method and class.

    Raises:
        DataError: if there is no choice yet, or a chosen setting lacks test pairs that did not fail.
    """
    about, choice = folder.about(), folder.stored(folder.choice_file)
    if not choice:
        raise DataError(f"{folder.path}: no settings have been chosen yet; choose them first")
    ours = folder.stored(folder.ours_file)
    methods, rows, left_out = {}, [], {}
    for method in (IDENTITY, *METHODS, *ours):
        setting = choice.get(method) if method in METHODS else OURS
        measured = measure(folder, about, method, setting, "test") if setting else None
        if measured is None:
            left_out[method] = _why(folder, about, method, setting)
            continue
        rows += measured["rows"]
        methods[method] = {
            "ours": method in ours,
            "setting": setting if method in METHODS else None,
            "test": measured["summary"],
            "seconds": seconds(measured),
            "cpu_seconds": seconds(measured, "cpu_seconds"),
            **_about_peer(folder, method, measured),
            **ours.get(method, {}),
        }
    return {**about_pairs(about), "methods": methods, "left_out": left_out}, rows


def about_pairs(about: dict) -> dict:
    """Data set, grid and the subjects of the pairs, for the result."""
    named = ("dataset", "synthetic", "class_names", "shape", "spacing")
    subjects = {name: scan["subject"] for name, scan in about["scans"].items()}
    pairs = {
        split: [[subjects[pair[side]] for side in ("moving", "fixed")] for pair in pairs_of(about, split)]
        for split in ("validation", "test")
    }
    return {**{name: about[name] for name in named}, "pairs": pairs}


def _about_peer(folder, method, measured) -> dict:
    if method not in METHODS:
        return {}
    return {
        "settings": dict(METHODS[method].settings),
        "validation": folder.stored(folder.validation_file)[method],
        "largest_difference_of_warped_images": max(stored["difference"] for stored in measured["numbers"]),
        **folder.stored(folder.tools_file).get(method, {}),
    }


def _why(folder, about, method, setting) -> str:
    said = folder.stored(folder.tools_file).get(method, {}).get("left_out")
    if said:
        return said
    if setting is None:
        return "no setting has a field for every validation pair"
    failed = [pair for pair in pairs_of(about, "test") if folder.failure_file(method, setting, pair["pair"]).exists()]
    if failed:
        return f"it failed on {len(failed)} test pairs"
    raise DataError(f"{folder.path}: {method} has no fields of the test pairs yet; run the peers again")


def sample(folder: PeersFolder, about: dict, scan: str) -> dict:
    """A scan as evaluation has it, without the image."""
    return {
        "subject": about["scans"][scan]["subject"].encode(),
        "label": read_volume(folder.label_file(scan)).astype(np.int32),
        "label_weight": np.asarray(about["label_weights"][scan], np.float32),
    }
