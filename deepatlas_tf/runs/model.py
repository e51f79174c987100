"""A trained model, from the folder of a run or from an exported SavedModel."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from deepatlas_tf.datasets.alignment import NONE, parse
from deepatlas_tf.keras_stack import keras, quiet_xla, tf
from deepatlas_tf.messages import detail, say
from deepatlas_tf.pretrained import model_folder, pretrained_names
from deepatlas_tf.runs.checks import checked_model
from deepatlas_tf.runs.ensemble import Ensemble, fold_folders
from deepatlas_tf.runs.files import read_json
from deepatlas_tf.runs.folder import RunFolder
from deepatlas_tf.runs.predict import (
    Registrar,
    Segmenter,
    any_size,
    check_refinement,
    load_task_net,
    refined_registrar,
    registrar,
    registration_beside,
    segmentation_beside,
    segmenter,
    trained_nets,
)
from deepatlas_tf.scans.channels import ONE
from deepatlas_tf.scans.nifti import Nifti, read_image
from deepatlas_tf.types import DataError, SettingError

METADATA = Path("assets") / "metadata.json"
REFERENCE = Path("assets") / "reference.nii.gz"


class Reference(NamedTuple):
    """What a scan is aligned to before the networks see it.

    scan: the image of the reference on the networks' grid, and the affine of that. kind: ``rigid`` or ``affine``.
    """

    scan: Nifti
    kind: str


class Grid(NamedTuple):
    """The space that the networks know.

    class_names: background first. shape (D,), spacing (D,) mm: of the grid that they were trained on. reference: that
    scans are aligned to first; None where they are taken as they lie. class_numbers: of the classes in the label files
    of the training scans, 0 first; None where a class had several, or it is not known. channel_names: of the images.
    ignore_number: of the voxels in these files that count nothing; None where there is none. merged_numbers: of each
    class in these files, the background's first, where a class had several. without_specks: the classes that have
    none in the label maps, see :mod:`deepatlas_tf.scans.components`.
    """

    class_names: tuple[str, ...]
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    reference: Reference | None = None
    class_numbers: tuple[int, ...] | None = None
    channel_names: tuple[str, ...] = ONE
    ignore_number: int | None = None
    merged_numbers: tuple[tuple[int, ...], ...] | None = None
    without_specks: tuple[int, ...] = ()

    @property
    def written_numbers(self) -> tuple[int, ...]:
        """The number of each class in label maps that are written: that of the label files, else its index."""
        return tuple(range(len(self.class_names))) if self.class_numbers is None else self.class_numbers


class TrainedModel:
    """The networks of a run. Raises DataError where ``path`` is not the folder of one."""

    def __init__(self, path: Path):
        self.path = path
        self.folder = RunFolder(path)
        self.settings = self.folder.settings()
        self.about = self.folder.model()
        self.grid = _grid(self.about, self.folder.reference_file)

    def full_resolution(self) -> str | None:
        """The last finished stage that segments scans at their own resolution; None where there is none."""
        found = [stage.name for stage in self.folder.stages() if stage.is_finished and stage.grid() is not None]
        return found[-1] if found else None

    def grid_of(self, stage: str | None) -> Grid:
        """The space that the networks of a stage know: its own where it is of full resolution, else that of the run."""
        own = self.folder.stage(stage).grid() if stage is not None else None
        if own is None:
            return self.grid
        shape, spacing, specks = (tuple(own.get(name, ())) for name in ("shape", "spacing", "without_specks"))
        return self.grid._replace(shape=shape, spacing=spacing, without_specks=specks)

    def stage_of(self, task: str, stage: str | None = None) -> str | None:
        """The last stage on the run's grid that trained a net for the task; None where there is none.

        ``stage``, where it is given, may also be one that only took its net over from an earlier stage. Raises
        SettingError where it has none.
        """
        stages = [s for s in self.settings["stages"] if self.folder.stage(s["name"]).net(task).exists()]
        names = [s["name"] for s in stages]
        if stage is not None and stage not in names:
            have = ", ".join(names) or "none"
            raise SettingError(f"{self.path} has no finished stage {stage!r} with a {task} network; there are: {have}")
        trained = [s["name"] for s in stages if task in trained_nets(s) and not s.get("patches")]
        return stage or (trained[-1] if trained else None)

    def net(self, task: str, stage: str | None = None) -> keras.Model:
        """The network of a task for images of any size. Raises DataError where the run has none."""
        name = self.stage_of(task, stage)
        if name is None:
            raise DataError(f"{self.path} has no finished {task} network; train one, or choose another --model")
        return any_size(load_task_net(self.folder, name, task))

    def segmenter(self, stage: str | None = None) -> Segmenter:
        """A function ``image (*S, K) -> class probabilities (*S, C)``, NumPy in and out, for any size."""
        return segmenter(self.net("segmentation", stage))

    def registrar(
        self,
        stage: str | None = None,
        instance_steps: int = 0,
        anatomy: bool = False,
        segment: Segmenter | None = None,
    ) -> Registrar:
        """A function ``moving (*S, K), fixed (*S, K) -> u (*S, D)`` in voxels, NumPy in and out, for any size.

        instance_steps: the network's field is refined for the two images by so many steps on the loss of its stage.
        anatomy: the predictions of the run's segmentation network are aligned as well; or what ``segment`` says.
        """
        check_refinement(instance_steps, anatomy)
        net, name = self.net("registration", stage), self.stage_of("registration", stage)
        if not instance_steps:
            return registrar(net)
        settings = next(s for s in self.settings["stages"] if s["name"] == name)
        if anatomy and segment is None:
            segment = self.segmenter(segmentation_beside(self.folder, settings["name"]))
        return refined_registrar(net, settings, instance_steps, segment if anatomy else None)

    def registration_beside(self, stage: str | None = None) -> str:
        """The stage whose registration network is used beside the segmentation of ``stage``: itself, or the last.

        ``stage`` is as for :meth:`segmenter`. Raises SettingError where no finished stage registers images.
        """
        found = registration_beside(self.folder, self.stage_of("segmentation", stage) or "")
        if found is None:
            raise SettingError(f"--atlas: no finished stage of {self.path} has learned to register images")
        return found

    def segmentation_beside(self, stage: str | None = None) -> str:
        """The stage whose segmentation network is used beside the registration of ``stage``: its own, or the last.

        ``stage`` is as for :meth:`registrar`. Raises SettingError where the run has none.
        """
        return segmentation_beside(self.folder, self.stage_of("registration", stage) or "")


class ExportedModel:
    """A SavedModel written by ``deepatlas export``, with the functions that a :class:`TrainedModel` has."""

    def __init__(self, path: Path):
        self.path = path
        self.about = checked_model(read_json(path / METADATA), path / METADATA)
        self.grid = _grid(self.about, path / REFERENCE)
        self.signatures = _signatures(path)

    def full_resolution(self) -> None:
        """None, for the one segmentation network that an exported model may have."""

    def grid_of(self, stage: str | None) -> Grid:
        """The space that the networks know."""
        return self.grid

    def segmenter(self, stage: str | None = None) -> Segmenter:
        """A function ``image (*S, K) -> class probabilities (*S, C)``, NumPy in and out, for any size."""
        function = self._signature("segment", stage)
        return lambda image: function(image=tf.constant(image[None]))["probabilities"].numpy()[0]

    def registrar(
        self,
        stage: str | None = None,
        instance_steps: int = 0,
        anatomy: bool = False,
        segment: Segmenter | None = None,
    ) -> Registrar:
        """A function ``moving (*S, K), fixed (*S, K) -> u (*S, D)`` in voxels, NumPy in and out, for any size.

        Raises SettingError for ``instance_steps``, as an exported model has no loss, and for a ``stage``.
        """
        check_refinement(instance_steps, anatomy)
        if instance_steps:
            raise SettingError("--instance-steps needs the folder of the run: an exported model has no loss")
        function = self._signature("register", stage)
        return lambda m, f: function(moving=tf.constant(m[None]), fixed=tf.constant(f[None]))["displacement"].numpy()[0]

    def registration_beside(self, stage: str | None = None) -> None:
        """None, for the one registration network that an exported model may have."""

    def segmentation_beside(self, stage: str | None = None) -> None:
        """None, for the one segmentation network that an exported model may have."""

    def _signature(self, task: str, stage: str | None) -> Callable:
        if stage is not None:
            raise SettingError(f"--stage {stage} needs the folder of a run: {self.path} is an exported model")
        # the images have been rescaled before they were resampled, as in training
        name = f"{task}_rescaled"
        if name not in self.signatures:
            raise DataError(f"{self.path} was exported without a network to {task}: choose another --model")
        return self.signatures[name]


def open_model(path: Path) -> TrainedModel | ExportedModel | Ensemble:
    """A run (it has ``experiment.json``), a cross-validation (``folds.json``), a SavedModel, or a folder of versions.

    Of versions the newest is taken. Where ``path`` is none of these it may be the name of networks that come with the
    package, see :mod:`deepatlas_tf.pretrained`. Raises DataError where it is not that either.
    """
    folds = fold_folders(path)
    if folds:
        return Ensemble(path, [TrainedModel(fold) for fold in folds])
    folder = RunFolder(path)
    if folder.settings_file.exists():
        if not folder.model_file.exists():
            raise DataError(
                f"{path} has no model.json: run its training command again, which adds it to a finished run"
            )
        return TrainedModel(path)
    found = path if (path / "saved_model.pb").exists() else newest_version(path)
    if found is None and model_folder(path) != path:
        return TrainedModel(model_folder(path))
    if found is None:
        raise DataError(
            f"{path} is neither the folder of a run (experiment.json) nor a SavedModel (saved_model.pb), nor the name "
            f"of networks that come with the package ({', '.join(pretrained_names()) or 'none'})"
        )
    if not (found / METADATA).exists():
        raise DataError(f"{found} has no {METADATA}: export it with deepatlas export")
    return ExportedModel(found)


def note_on_sides(model: TrainedModel | ExportedModel | Ensemble, mirror: bool) -> None:
    """Say that left scans have to be mirrored, where those of training were and these are not."""
    if model.about.get("left_mirrored") and not mirror:
        say("this model knows right sides only, left ones were mirrored in training: pass --mirror for left ones")


def newest_version(path: Path) -> Path | None:
    """The subfolder with the largest number for a name that holds a SavedModel, as TensorFlow Serving chooses."""
    folders = path.iterdir() if path.is_dir() else ()
    versions = [folder for folder in folders if folder.name.isdigit() and (folder / "saved_model.pb").exists()]
    return max(versions, key=lambda folder: int(folder.name), default=None)


def _grid(about: Mapping[str, Any], reference: Path) -> Grid:
    names, shape, spacing = (tuple(about[name]) for name in ("class_names", "shape", "spacing"))
    numbers = about.get("class_numbers")  # earlier versions did not record them
    numbers = None if numbers is None else tuple(numbers)
    kind, _ = parse(about.get("alignment", NONE))
    scan = None if kind == NONE else Reference(read_image(reference, "reference", len(shape)), kind)
    channels = tuple(about.get("channel_names", ONE))
    merged = tuple(map(tuple, about.get("merged_numbers", ()))) or None
    specks = tuple(about.get("without_specks", ()))
    return Grid(names, shape, spacing, scan, numbers, channels, about.get("ignore_number"), merged, specks)


def _signatures(path: Path) -> Mapping[str, Callable]:
    detail(f"reading {path}")
    quiet_xla()
    try:
        return tf.saved_model.load(str(path)).signatures
    except Exception as error:  # TensorFlow and protobuf raise several kinds for a damaged file
        reason = (" ".join(str(error).split()) or type(error).__name__)[:120]
        raise DataError(f"cannot load the SavedModel {path} ({reason}); export it again") from error
