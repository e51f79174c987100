"""From Python in a few lines: train on scans, and apply the run to files or to images in memory.

import deepatlas_tf as da

run = da.train("scans.csv", workdir="runs/mine")
label_map = run.segment("new.nii.gz")
warped, field = run.register("moving.nii.gz", "fixed.nii.gz")
"""

import contextlib
import difflib
import inspect
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import nibabel as nib
import numpy as np

from deepatlas_tf import run
from deepatlas_tf.apply.atlases import Functions, Voters, check_guided, check_refined, read_atlas, read_template
from deepatlas_tf.apply.fields import field_image, warp_volume
from deepatlas_tf.apply.files import header_of, stem
from deepatlas_tf.apply.given_scans import channel_files, check_number
from deepatlas_tf.apply.register import check_of_volumes, read_volume, register_scans
from deepatlas_tf.apply.segment import segment_scan, segmentation_stage, with_numbers
from deepatlas_tf.cross_validation import cross_validate
from deepatlas_tf.runs.atlases import Atlas
from deepatlas_tf.runs.model import open_model
from deepatlas_tf.scans import nifti
from deepatlas_tf.scans.channels import read_channels

if TYPE_CHECKING:
    from typing_extensions import Unpack

Image = str | os.PathLike | nib.spatialimages.SpatialImage
Scan = Image | Sequence[Image]
FUNCTIONS = 4  # networks that are kept ready, of different stages or refinements


class Registered(NamedTuple):
    """warped: the moving scan on the fixed one's grid. field: displacements in mm, in the form of ITK.

    Of several channels ``warped`` is (X, Y, Z, channel).
    """

    warped: nib.Nifti1Image
    field: nib.Nifti1Image


class Run:
    """A trained run, a cross-validation, or an exported model, ready to be applied.

    Scans are paths of NIfTI files, or nibabel images such as ``nib.Nifti1Image(array, affine)``. Results are nibabel
    images on the scan's own grid; ``np.asarray(image.dataobj)`` is the array. For a model of several channels a scan is
    a list of one for each, in the order of ``channel_names``, or the path of ``NAME_0000.nii.gz``, beside which the
    others lie.

    Args:
        path: folder of a run, of a cross-validation or of an exported model.

    Raises:
        DataError: if it is none of these.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.model = open_model(self.path)
        once = lru_cache(FUNCTIONS)
        self._functions = Functions(
            once(self.model.segmenter),
            once(self.model.registrar),
            self.model.registration_beside,
            self.model.segmentation_beside,
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, ``background`` first."""
        return self.model.grid.class_names

    @property
    def channel_names(self) -> tuple[str, ...]:
        """The channels of a scan, ``("image",)`` where there is one."""
        return self.model.grid.channel_names

    def segment(
        self,
        scan: Scan,
        *,
        stage: str | None = None,
        atlases: Sequence[tuple[Scan, Image]] = (),
        templates: Sequence[Scan] = (),
        instance_steps: int = 0,
        flips: bool = False,
    ) -> nib.Nifti1Image:
        """The label map of a scan (X, Y, Z), with the numbers that ``deepatlas segment`` writes.

        Args:
            scan: a file, or an image in memory.
            stage: of the run; None takes the one of full resolution, else the last that segments.
            atlases: (image, label map) of scans that vote with the network, see :mod:`deepatlas_tf.runs.atlases`.
            templates: scans that vote without a label map.
            instance_steps: the registration of each atlas and template is refined by so many steps.
            flips: the network's result is the mean over the scan and its mirror image, see
                :mod:`deepatlas_tf.runs.flips`.

        Raises:
            SettingError: flips of what is not its own mirror image.
            DataError: if the scan, an atlas or a template cannot be used, or there is no such network.
        """
        voters = (*atlases, *templates)
        check_refined(voters, instance_steps)
        stage = segmentation_stage(self.model, stage, with_atlases=bool(voters))
        grid = self.model.grid_of(stage)
        functions = self._functions
        if flips:
            functions = functions.with_flips(self.model.grid, self.model.about)
        segment = functions.voting(stage, self._voters(atlases, templates), instance_steps)
        with _files_of(scan, self.channel_names) as (paths, name):
            source = read_channels(paths, self.channel_names, name, len(grid.shape))
            header = header_of(paths[0])
        found = segment_scan(segment, grid, source, windows=not voters)
        return nifti.image_of(with_numbers(found.label, grid.written_numbers), source.affine, header)

    def _voters(self, atlases: Sequence[tuple[Scan, Image]], templates: Sequence[Scan]) -> Voters:
        return Voters([self._atlas(*files) for files in atlases], [self._template(one) for one in templates])

    def _atlas(self, image: Scan, label: Image) -> Atlas:
        with _files_of(image, self.channel_names) as (paths, name), _file_of(label) as label_path:
            return read_atlas(paths, label_path, self.model.grid, name)

    def _template(self, image: Scan) -> np.ndarray:
        with _files_of(image, self.channel_names) as (paths, name):
            return read_template(paths, self.model.grid, name)

    def register(
        self,
        moving: Scan,
        fixed: Scan,
        *,
        stage: str | None = None,
        instance_steps: int = 0,
        anatomy: bool = False,
        atlases: Sequence[tuple[Scan, Image]] = (),
        templates: Sequence[Scan] = (),
    ) -> Registered:
        """Register two scans (X, Y, Z).

        Args:
            moving: the scan that is warped.
            fixed: the scan that it is warped onto.
            stage: of the run; None takes the last that registers.
            instance_steps: the field is refined for these two scans by so many steps.
            anatomy: by aligning the predictions of the run's segmentation network, too.
            atlases: (image, label map) of scans that vote with these predictions, as in :meth:`segment`.
            templates: scans that vote without a label map.

        Raises:
            SettingError: atlases or templates without ``anatomy``, or that without ``instance_steps``.
            DataError: if a scan cannot be used, the model is one of slices, or there is no such network.
        """
        check_guided((*atlases, *templates), instance_steps, anatomy)
        check_of_volumes(self.path, self.model.grid)
        with _files_of(moving, self.channel_names) as (paths, name):
            source, scans = read_volume(paths, self.channel_names, name), name
        with _files_of(fixed, self.channel_names) as (paths, name):
            target, header = read_volume(paths, self.channel_names, name), header_of(paths[0])
        voters = self._voters(atlases, templates)
        segment = self._functions.guiding(stage, voters, instance_steps, self.model.grid, f"{scans} on {name}")
        registrar = self.model.registrar if voters else self._functions.registrar  # votes are of this pair's atlases
        register = registrar(stage, instance_steps, anatomy, segment)
        field = register_scans(register, self.model.grid, source, target).field
        channels = [warp_volume(channel, source.affine, field) for channel in source.channels]
        warped = channels[0] if len(channels) == 1 else np.stack(channels, axis=-1)
        return Registered(nifti.image_of(warped, target.affine, header), field_image(field, header))


IN_MEMORY = "image in memory"  # what messages call it


@contextlib.contextmanager
def _files_of(scan: Scan, channels: Sequence[str]) -> Iterator[tuple[tuple[Path, ...], str]]:
    """The files of a scan, one for each channel, and a name for messages."""
    if isinstance(scan, str | os.PathLike):
        paths = channel_files(Path(scan), channels) if len(channels) > 1 else (Path(scan),)
        yield paths, stem(paths[0])
        return
    images = [scan] if isinstance(scan, nib.spatialimages.SpatialImage) else list(scan)
    first = images[0] if images else scan
    name = stem(Path(first)) if isinstance(first, str | os.PathLike) else IN_MEMORY
    check_number(name, len(images), channels)
    with contextlib.ExitStack() as stack:
        yield tuple(stack.enter_context(_file_of(image)) for image in images), name


@contextlib.contextmanager
def _file_of(image: Image) -> Iterator[Path]:
    """A file of the image, so that one in memory is read and checked as a file is."""
    if not isinstance(image, nib.spatialimages.SpatialImage):
        yield Path(image)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.nii"
        nib.save(nib.Nifti1Image.from_image(image), path)
        yield path


class TrainOptions(TypedDict, total=False):
    """Further options of :func:`train`, for editors and type checkers."""

    method: str
    seed: int | None
    steps_scale: float
    tiny: bool
    config: str | os.PathLike | None
    init_from: str | os.PathLike | None


def train(
    scans: str | os.PathLike | None = None,
    labels: int | None = None,
    workdir: str | os.PathLike | None = None,
    *,
    dataset: str | None = None,
    folds: int | None = None,
    settings: Iterable[str] = (),
    **options: "Unpack[TrainOptions]",
) -> Run:
    """Train, measure and draw, as ``deepatlas train`` does; the same call goes on with an interrupted run.

    Args:
        scans: a CSV of scans or their folder, as for ``--dataset nifti``; of another data set, the folder of its scans,
            and None where it is synthetic or prepared.
        labels: how many training subjects keep their label map; None for as many as the experiment says.
        workdir: folder of the run; None is ``runs/NAME``.
        dataset: name of a data set; None is that of ``config``, or ``nifti``, your own scans.
        folds: a cross-validation of so many runs, which are one model; None is one run.
        settings: assignments such as ``"stages.deepatlas.steps=400"``; ``"data.full_resolution=True"`` is the option
            ``--full-resolution``.
        options: ``method``, ``seed``, ``steps_scale`` and ``tiny`` as for :func:`~deepatlas_tf.run.make_experiment`;
            ``config`` and ``init_from`` as for :func:`~deepatlas_tf.run.experiment_from`.

    Raises:
        DataError: if the scans cannot be used, or ``workdir`` holds another run.
        SettingError: if there is no such method or setting, or there are fewer label maps than folds.
        TypeError: if there is no such option; the near ones are named.
    """
    unknown = sorted(set(options) - set(TrainOptions.__annotations__))
    if unknown:
        names = [name for name in inspect.signature(train).parameters if name != "options"]
        names += TrainOptions.__annotations__
        near = difflib.get_close_matches(unknown[0], names, n=3) or names
        raise TypeError(f"train has no option {unknown[0]!r}; near: {', '.join(near)}")
    asked: dict[str, Any] = {**options}
    for name in ("config", "init_from"):
        asked[name] = Path(asked[name]) if asked.get(name) else None
    if dataset or not asked["config"]:
        asked["dataset"] = dataset or "nifti"
    if labels is not None:
        asked["labels"] = labels
    experiment = run.experiment_from(settings=settings, **asked)
    source, folder = (None if path is None else Path(path) for path in (scans, workdir))
    own, others = (source, None) if experiment.data.dataset == "nifti" else (None, source)
    places: dict[str, Any] = {"data_dir": own, "manual_dir": others}
    if folds is None:
        return Run(run.train(experiment, folder, **places))
    return Run(cross_validate(experiment, folds, folder, **places))
