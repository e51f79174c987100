"""A result as tables in Markdown."""

from peers.shown import number, table

from deepatlas_tf.runs.folder import TASKS
from joint import curves

COLUMNS = {
    "segmentation": (("Dice", "dice", 3), ("HD95 mm", "hd95_mm", 2)),
    "registration": (
        ("Dice", "dice", 3),
        ("HD95 mm", "hd95_mm", 2),
        ("% folds", "folds_percent", 3),
        ("SDlogJ", "sdlogj", 3),
    ),
}
COSTS = ["minutes of training", "seconds a case", "GiB, training", "GiB, prediction"]


def markdown(result: dict) -> str:
    """For each task the means of the test cases with what they cost, and the Dice of each class; then the curves."""
    found = [_title(result)]
    for task in TASKS:
        methods = {name: method for name, method in result["methods"].items() if task in method}
        head = ["method", *(heading for heading, _, _ in COLUMNS[task]), *COSTS]
        found.append(f"**{task.capitalize()}**")
        found.append(table(head, [_means(name, method, task) for name, method in methods.items()], 1))
        classes = result["class_names"][1:]
        by_class = [
            [name, *(number(method[task]["dice"]["per_class"][one], 3) for one in classes)]
            for name, method in methods.items()
        ]
        found.append(table(["Dice", *classes], by_class, 1))
    if curves.peers(result):
        found += ["**Validation Dice against minutes of training**", curves.markdown(result)]
    return "\n\n".join(found)


def _title(result: dict) -> str:
    synthetic = " (synthetic)" if result["synthetic"] else ""
    grid = " x ".join(map(str, result["shape"]))
    scans = f"{result['training_scans']} training scans of {grid} voxels, {result['labelled']} with a label map"
    return f"{result['dataset']}{synthetic}: {scans}; the run `{result['run']['run']}`"


def _means(name: str, method: dict, task: str) -> list[str]:
    means = [number(method[task][measure]["mean"], digits) for _, measure, digits in COLUMNS[task]]
    seconds = method["seconds"].get(task)
    memory = [number(_gib(method["peak_bytes"].get(step)), 2) for step in ("train", "predict")]
    return [name, *means, number(method["minutes"], 1), "-" if seconds is None else f"{seconds:.3g}", *memory]


def _gib(size: int | None) -> float | None:
    return None if size is None else size / 2**30
