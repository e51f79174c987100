"""deepatlas_tf on whole scans: what ``deepatlas segment`` and ``deepatlas register`` do to a file, and the metrics."""

import tempfile
from pathlib import Path

import numpy as np

from deepatlas_tf.apply.fields import warp_volume, write_field
from deepatlas_tf.apply.files import header_of, save
from deepatlas_tf.apply.register import register_scans
from deepatlas_tf.apply.segment import segment_scan
from deepatlas_tf.metrics.deformation import folds_percent
from deepatlas_tf.metrics.overlap import dice
from deepatlas_tf.metrics.surface import surface_metrics
from deepatlas_tf.runs.model import open_model
from deepatlas_tf.scans import nifti
from side_by_side import inputs
from side_by_side.ours_nets import weights_of, write_run
from side_by_side.worker import Task


def segment_task(settings, arrays):
    folder, model, weights = _start(settings, arrays)
    function = model.segmenter()

    def step():
        scan = nifti.read_image(folder.path / "moving.nii.gz", "moving")
        label = segment_scan(function, model.grid, scan).label
        save(folder.path / "label.nii.gz", label, scan.affine, header_of(folder.path / "moving.nii.gz"))
        return label

    return Task(step, inputs.label_values(step()), weights=weights)


def register_task(settings, arrays):
    """Written are the warped image and the field; not, as the command does too, the inverse and the Jacobian."""
    folder, model, weights = _start(settings, arrays)
    function = model.registrar()

    def step():
        moving, fixed = (nifti.read_image(folder.path / f"{name}.nii.gz", name) for name in ("moving", "fixed"))
        field = register_scans(function, model.grid, moving, fixed).field
        header = header_of(folder.path / "fixed.nii.gz")
        write_field(folder.path / "field.nii.gz", field, header)
        warped = warp_volume(moving.volume, moving.affine, field)
        save(folder.path / "warped.nii.gz", warped, fixed.affine, header)
        return {"field": float(np.abs(field.vectors).mean()), "warped": float(warped.mean())}

    return Task(step, step(), weights=weights)


def evaluation_task(settings, arrays):
    prediction, reference, u = (arrays[name] for name in ("prediction", "reference", "u"))
    n_classes = settings["n_classes"]

    def step():
        found = {"dice": dice(prediction, reference, n_classes), "folds": folds_percent(u)}
        return found | surface_metrics(prediction, reference, n_classes, (1.0, 1.0, 1.0))

    return Task(step, {name: float(np.mean(value)) for name, value in step().items()})


def _start(settings, arrays):
    """A folder with the scans and, in ``run``, a run; the model; its weights for the other side."""
    folder = _Folder()
    shape = arrays["moving"].shape[1:-1]
    nets = write_run(folder.path / "run", shape, settings)
    inputs.write_scans(folder.path, arrays)
    return folder, open_model(folder.path / "run"), weights_of(nets)


class _Folder:
    """A temporary folder that lives as long as the task that uses it."""

    def __init__(self):
        self._temporary = tempfile.TemporaryDirectory()
        self.path = Path(self._temporary.name)


TASKS = {"segment": segment_task, "register": register_task, "evaluation": evaluation_task}
