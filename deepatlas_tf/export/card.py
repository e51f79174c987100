"""What goes with an exported model: metadata for programs, and a model card for people."""

import importlib.metadata
from collections.abc import Sequence

from deepatlas_tf.keras_stack import versions
from deepatlas_tf.pretrained import origin
from deepatlas_tf.runs.model import TrainedModel
from deepatlas_tf.runs.summary import is_trial, labels_used
from deepatlas_tf.scans.channels import ONE
from deepatlas_tf.scans.components import SPECK

ORIENTATION = "RAS"  # of the axes: the first index grows towards the right, the second anterior, the third superior


def metadata(run: TrainedModel, stages: dict[str, str | None], version: int) -> dict:
    """What a client must know, and where the model comes from; plain JSON types.

    Args:
        run: that is exported.
        stages: task -> stage of the run whose network is served; None where there is none.
        version: of the export.
    """
    asked, data = run.settings["data"].get("labels"), run.folder.data()
    grid = run.grid_of(stages.get("segmentation"))
    return {
        "class_names": list(grid.class_names),
        "class_numbers": None if grid.class_numbers is None else list(grid.class_numbers),
        "channel_names": list(grid.channel_names),
        **({} if grid.ignore_number is None else {"ignore_number": grid.ignore_number}),
        **({} if grid.merged_numbers is None else {"merged_numbers": list(map(list, grid.merged_numbers))}),
        **({"without_specks": list(grid.without_specks)} if grid.without_specks else {}),
        "shape": list(grid.shape),
        "spacing": list(grid.spacing),
        "orientation": ORIENTATION[: len(grid.shape)],
        "intensity": "any: each channel is rescaled from its 0.5 to its 99.5 percentile, zeros left out, to [0, 1]",
        "extent": "give images of exactly `shape` voxels, cut about the anatomy and padded with the values at their "
        "border, larger scans in windows of that size: the network normalises over all voxels that it is given",
        "not_finite": "a request with a voxel that is NaN or infinite is refused",
        "displacement": "voxels of the images given; component order is axis order; warped(x) = moving(x + u(x))",
        "dataset": run.about.get("dataset", run.settings["data"]["dataset"]),
        "synthetic": run.about.get("synthetic", False),
        "left_mirrored": run.about.get("left_mirrored", False),
        "alignment": run.about.get("alignment", "none"),
        "training_labels": len(data["used_labels"]) if data else asked,
        "labels_used": labels_used(asked, data),
        "trial": is_trial(run.settings["stages"]),
        "stages": stages,
        "measured": _measured(run, stages),
        "origin": origin(run.path),
        "model_version": version,
        "deepatlas_tf_version": importlib.metadata.version("deepatlas_tf"),
        "versions": versions(),
    }


def _measured(run: TrainedModel, stages: dict[str, str | None]) -> dict:
    """The run's own evaluation of the served networks: ``{task: {measure: {"mean", "per_class"}}}``; may be empty."""
    summary = run.folder.summary() if run.folder.summary_file.exists() else {}
    found = {}
    for name, results in summary.items():  # "deepatlas", or "deepatlas (t1 to t2)" where there are domains
        for task, stage in stages.items():
            if name.partition(" (")[0] == stage and task in results:
                found[task] = results[task]
    return found


def model_card(about: dict) -> str:
    """Markdown, from :func:`metadata`."""
    spacing = " x ".join(f"{size:g}" for size in about["spacing"])
    shape = " x ".join(map(str, about["shape"]))
    kind = "**synthetic** images" if about["synthetic"] else "scans"
    networks = ", ".join(f"{task} (stage `{stage}`)" for task, stage in about["stages"].items() if stage)
    lines = [
        f"# Model card: {about['dataset']}, version {about['model_version']}",
        "",
        f"- Networks: {networks}.",
        f"- Trained on {kind} of the data set `{about['dataset']}`, with label maps of {about['labels_used']}.",
        *(["- **A trial**: trained for 8 steps a stage or less (`--tiny`), it has learned nothing."] * about["trial"]),
        f"- Classes: {', '.join(f'{i} {name}' for i, name in enumerate(about['class_names']))}.",
        *_numbers(about["class_names"], about.get("class_numbers")),
        f"- Input: {_channels(about.get('channel_names', ONE))}, voxels of {spacing} mm, axes towards"
        f" {about['orientation']}; trained on {shape} voxels. Intensities are"
        " rescaled inside. Voxels that are NaN or infinite are refused.",
        f"- Any size is taken, but give {shape} voxels: the network normalises over all that it is given, so empty"
        " space around the anatomy changes the result everywhere. Cut the scan to its anatomy, pad it with the values"
        " at its border, and give larger scans in windows of that size: `deepatlas segment` and the clients do so.",
        *_specks(about["class_names"], about.get("without_specks", ())),
        *_alignment(about.get("alignment", "none")),
        f"- Made with deepatlas_tf {about['deepatlas_tf_version']}, "
        f"TensorFlow {about['versions']['tensorflow']}, voxelmorph {about['versions']['voxelmorph']}.",
        "",
        "## Measured by the last evaluation of the run (its test subjects, unless another split was asked for)",
        "",
        *_tables(about["measured"]),
        "",
        "## Limits",
        "",
        "- For research; it is no medical device, and nobody has tested it as one.",
        "- Other scanners, contrasts, ages or diseases than in the training data are untested: measure on scans of your"
        " own with label maps first.",
        *(["- Trained on synthetic images: nothing is known of its results on real scans."] * about["synthetic"]),
        *(["", "## Origin and licence", "", about["origin"]] if about.get("origin") else []),
        "",
    ]
    return "\n".join(lines)


def _channels(names: Sequence[str]) -> str:
    if len(names) == 1:
        return "one channel"
    return f"{len(names)} channels on the last axis, {', '.join(names)} in this order"


def _numbers(names: list[str], numbers: list[int] | None) -> list[str]:
    """Which numbers label maps have, where they are not those of the classes in the answers of the server."""
    if numbers is None or numbers == list(range(len(names))):
        return []
    own = ", ".join(f"{number} {name}" for number, name in zip(numbers, names, strict=True))
    return [
        "- The signature `segment` answers with these numbers. Label maps that `deepatlas segment` writes have those of"
        f" the label files of training: {own}."
    ]


def _specks(names: Sequence[str], classes: Sequence[int]) -> list[str]:
    if not classes:
        return []
    return [
        f"- Specks of {', '.join(names[index] for index in classes)}, components of less than {SPECK:g} of the voxels"
        " of the largest, are in the answers of the server; `deepatlas segment` gives them to what is around them."
    ]


def _alignment(kind: str) -> list[str]:
    if kind == "none":
        return []
    return [
        f"- Scans were aligned ({kind.partition(':')[0]}) to `assets/reference.nii.gz`, a training subject's scan on"
        " the network's grid, before the networks saw them; give only images that are. `deepatlas segment` and"
        " `deepatlas register` align scans themselves; the clients do not. The reference is a person's image: share it"
        " only where you may."
    ]


def _tables(measured: dict) -> list[str]:
    if not measured:
        return ["Not measured: the run has no `evaluation/summary.json` for these networks."]
    lines = []
    for task, values in measured.items():
        lines += [f"| {task} | Dice | HD95 (mm) |", "| --- | ---: | ---: |"]
        for name in values["dice"]["per_class"]:
            cells = [_cell(values[measure]["per_class"].get(name)) for measure in ("dice", "hd95_mm")]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        means = [_cell(values[measure]["mean"]) for measure in ("dice", "hd95_mm")]
        lines += [f"| mean | {' | '.join(means)} |", ""]
    return lines[:-1]


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
