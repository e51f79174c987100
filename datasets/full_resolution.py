"""The same scans at their own resolution: a second prepared data set, on the grid that the scans themselves have.

It is made by the data set's own builder, so that a scan is read, checked, merged and rescaled in the one way there is.
Patches are cut from its records: nothing is decoded or resampled while a network is trained. Beside the label map of
the fine grid it keeps that of each scan's own grid, where results are measured.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from nibabel.affines import voxel_sizes

from deepatlas_tf.datasets.alignment import NONE
from deepatlas_tf.datasets.choose_grid import MULTIPLE
from deepatlas_tf.datasets.load import DataSet, PathLike, data_set, load_dataset
from deepatlas_tf.datasets.splits import SPLITS
from deepatlas_tf.scans.grid import SAME_SPACING, GridTransform
from deepatlas_tf.types import DataError, SettingError


def full_resolution_grid(
    dataset: DataSet, spacing: Sequence[float] | None = None
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The grid of the scans' own resolution: its shape ``(D,)`` in voxels and its spacing ``(D,)`` in mm.

    The spacing is the median of the training scans along right, anterior, superior; it is that of the splits as they
    were prepared, one for all folds. The shape is the smallest, a multiple of 8, that holds every scan whole.

    Args:
        dataset: the scans, on the grid of the other stages.
        spacing: taken instead of the median.

    Raises:
        DataError: the data set is synthetic, or its grid is as fine as the scans already.
        SettingError: the scans are aligned to a reference, or ``spacing`` has another number of axes.
    """
    start = f"--full-resolution: {dataset.name}"
    if dataset.synthetic:
        raise DataError(f"{start} is synthetic, and drawn on the network's grid: there are no scans of a finer one")
    if dataset.alignment != NONE:
        raise SettingError(f"--full-resolution takes scans as they lie: leave out data.alignment={dataset.alignment}")
    n_axes = len(dataset.spacing)
    if spacing is not None and (len(spacing) != n_axes or min(spacing) <= 0):
        raise SettingError(f"{start} has {n_axes} axes, which take so many voxel sizes above 0, not {tuple(spacing)}")
    prepared = data_set(dataset.name, dataset.builder)
    sizes = {split: _sizes(prepared, split) for split in SPLITS}
    own = np.median([size for size, _ in sizes["train"]], axis=0)
    chosen = np.array(spacing or [float(f"{value:.4g}") for value in own], float)
    if (chosen > np.array(dataset.spacing) * (1 - SAME_SPACING)).all():
        wanted, known = (" x ".join(f"{value:g}" for value in values) for values in (chosen, dataset.spacing))
        raise DataError(f"{start} is prepared at {known} mm already, and {wanted} mm is no finer: leave it out")
    extents = np.max([extent for found in sizes.values() for _, extent in found], axis=0)
    shape = tuple(int(n) * MULTIPLE for n in np.ceil((extents / chosen - 1e-2) / MULTIPLE))
    return shape, tuple(chosen.tolist())


def load_full_resolution(
    dataset: DataSet,
    place: PathLike,
    spacing: Sequence[float] | None = None,
    *,
    data_dir: PathLike | None = None,
    manual_dir: PathLike | None = None,
) -> DataSet:
    """The data set at the resolution of its scans, with its subjects and splits; prepared first where it is not.

    Args:
        dataset: the scans, on the grid of the other stages.
        place: a folder; scans of one's own are kept there, in ``data``, unless ``manual_dir`` names them.
        spacing: as for :func:`full_resolution_grid`.
        data_dir, manual_dir: as for :func:`~deepatlas_tf.datasets.load.load_dataset`.

    Raises:
        DataError: what :func:`full_resolution_grid` and :func:`~deepatlas_tf.datasets.load.load_dataset` raise.
    """
    shape, spacing = full_resolution_grid(dataset, spacing)
    if dataset.name == "nifti" and manual_dir is not None and data_dir is not None:
        data_dir = f"{data_dir}/full_resolution"  # of these scans one copy is looked for in a folder
    found = load_dataset(
        dataset.name,
        data_dir=data_dir,
        manual_dir=manual_dir,
        workdir=place,
        shape=shape,
        spacing=spacing,
        own_labels=True,
    )
    if "own_label" not in found.builder.info.features:
        raise DataError(
            f"--full-resolution: {dataset.name} keeps no label maps on the scans' own grids: a ScanBuilder does"
        )
    return dataclasses.replace(found, subjects=dataset.subjects, labelled=dataset.labelled, read_from=dataset.read_from)


def _sizes(dataset: DataSet, split: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """The voxel size and the extent of each scan of a split, in mm along right, anterior, superior: (D,) each."""
    sizes = []
    for record in dataset.records(split).as_numpy_iterator():
        shape = tuple(int(n) for n in record["source_shape"])
        grid = GridTransform(record["source_affine"], shape, dataset.shape, dataset.spacing)
        size = voxel_sizes(grid.canonical_affine)
        sizes.append((size, size * grid.canonical_shape))
    return sizes
