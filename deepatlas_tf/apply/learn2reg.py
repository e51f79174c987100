"""Displacement fields of a data set's scans in the layout that the Learn2Reg challenge evaluates.

``disp_FIXED_MOVING.nii.gz`` for each pair, with the numbers of the cases in four digits: ``d (X, Y, Z, 3)`` float32 in
voxels, and the moving scan warped onto the fixed one is ``map_coordinates(moving, voxels + d)`` of SciPy (Hering et
al., IEEE TMI 2023; https://learn2reg.grand-challenge.org/Submission/).
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from deepatlas_tf.apply.files import check_outputs, save, writing_together
from deepatlas_tf.apply.points import apply_affine, sample, transformed_voxels
from deepatlas_tf.datasets.load import DataSet
from deepatlas_tf.messages import progress, say
from deepatlas_tf.metrics.blocks import by_blocks
from deepatlas_tf.runs.predict import Registrar
from deepatlas_tf.scans.class_names import csv_lines
from deepatlas_tf.types import DataError

Pair = tuple[str, str]  # the subjects of a fixed scan and of a moving one


def write_submission(
    register: Registrar, dataset: DataSet, pairs: Sequence[Pair], output: Path, overwrite: bool = False
) -> None:
    """Register pairs of a data set's scans and write their fields, all files or none.

    Args:
        register: function ``moving (*S, K), fixed (*S, K) -> u (*S, 3)`` in voxels of the network's grid.
        dataset: its scans; the fields are on the grids of their files.
        pairs: (fixed, moving) subjects.
        output: folder of the files.
        overwrite: replace files that are there.

    Raises:
        DataError: there is no pair, the scans are slices, a subject's name has no number or that of another, a field is
            not finite, or the files cannot be written.
    """
    if not pairs:
        raise DataError(f"--learn2reg: no two subjects of {dataset.name} make a pair in this split")
    if len(dataset.shape) != 3:
        raise DataError(f"--learn2reg: {dataset.name} has slices, and the challenge is of volumes")
    numbers = case_numbers(sorted({subject for pair in pairs for subject in pair}))
    names = {pair: f"disp_{numbers[pair[0]]:04}_{numbers[pair[1]]:04}.nii.gz" for pair in pairs}
    check_outputs([output / name for name in names.values()], overwrite)
    records = _records(dataset, set(numbers))
    with writing_together(output) as folder:
        for fixed, moving in progress(pairs, total=len(pairs), desc="registering", unit="pair"):
            field = _field(register, records[moving], records[fixed])
            if not np.isfinite(field).all():
                raise DataError(f"{moving} to {fixed}: the displacement field is not finite; check both scans")
            save(folder / names[fixed, moving], field, records[fixed]["source_affine"], None)
    say(f"{len(names)} displacement fields disp_FIXED_MOVING.nii.gz in {output}")


def _field(register: Registrar, moving: Mapping, fixed: Mapping) -> np.ndarray:
    u = register(moving["image"], fixed["image"])
    to_moving, to_fixed = (np.linalg.inv(record["source_affine"]) @ record["affine"] for record in (moving, fixed))
    return between_scans(u, to_moving, to_fixed, tuple(int(n) for n in fixed["source_shape"]))


def between_scans(u: np.ndarray, to_moving: np.ndarray, to_fixed: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The displacement of voxels of the fixed scan to voxels of the moving one, ``(*shape, 3)`` float32.

    Args:
        u: ``(*S, 3)`` in voxels of the network's grid; beyond that its border is continued.
        to_moving: (4, 4), voxels of the network's grid to voxels of the moving scan.
        to_fixed: (4, 4), likewise of the fixed scan.
        shape: of the fixed scan.
    """
    to_network = np.linalg.inv(to_fixed)

    def displacement(rows: slice) -> np.ndarray:
        at = transformed_voxels(to_network, shape, rows)
        moved = apply_affine(to_moving, at + sample(u, at))
        return (moved - transformed_voxels(np.eye(4), shape, rows)).astype(np.float32)

    return by_blocks(displacement, shape)


def case_numbers(subjects: Sequence[str]) -> dict[str, int]:
    """The number at the end of each subject's name. Raises DataError where there is none, or that of another."""
    found: dict[int, str] = {}
    for subject in subjects:
        digits = re.search(r"(\d+)\D*$", subject)
        if digits is None:
            raise DataError(f"--learn2reg: the name of {subject} holds no number, which the file of its field needs")
        if int(digits[1]) in found:
            raise DataError(f"--learn2reg: {found[int(digits[1])]} and {subject} have one number, {int(digits[1])}")
        found[int(digits[1])] = subject
    return {subject: number for number, subject in found.items()}


def read_pairs(path: Path, subjects: Sequence[str]) -> list[Pair]:
    """The pairs of a CSV with the columns ``fixed`` and ``moving``, as the challenge publishes them.

    Args:
        path: of the CSV; its cells are subjects, or the numbers of their names.
        subjects: those that there are.

    Raises:
        DataError: the file cannot be read, or names a subject that there is not, or one with itself.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}: check the path of --pairs")
    lines = [(number, [cell.strip() for cell in row]) for number, row in csv_lines(path)]
    heads = [head.lower() for head in lines[0][1]] if lines else []
    if not {"fixed", "moving"} <= set(heads) or len(lines) < 2:
        raise DataError(f"{path}: needs the columns fixed and moving, and a line for each pair")
    columns = heads.index("fixed"), heads.index("moving")
    known = {str(number): subject for subject, number in case_numbers(subjects).items()}
    known |= {subject: subject for subject in subjects}
    pairs = []
    for number, row in lines[1:]:
        cells = [row[column] if column < len(row) else "" for column in columns]
        fixed, moving = (known.get(cell) or known.get(cell.lstrip("0")) for cell in cells)
        if fixed is None or moving is None or fixed == moving:
            raise DataError(f"{path}, line {number}: {' and '.join(cells)} are not two subjects of the split")
        pairs.append((fixed, moving))
    return list(dict.fromkeys(pairs))


def preceding_pairs(subjects: Sequence[str], n: int) -> list[Pair]:
    """Each subject as the fixed one, with the ``n`` before it as the moving ones; the first ones with the last."""
    n = min(n, len(subjects) - 1)
    return [(fixed, subjects[index - k - 1]) for index, fixed in enumerate(subjects) for k in range(n)]


def _records(dataset: DataSet, subjects: set[str]) -> dict[str, dict]:
    """What the fields need of the records of these subjects."""
    wanted = ("image", "affine", "source_affine", "source_shape")
    found = {}
    for split in dataset.subjects:
        if subjects & set(dataset.subjects[split]):
            for record in dataset.records(split).as_numpy_iterator():
                name = record["subject"].decode()
                found |= {name: {key: record[key] for key in wanted}} if name in subjects else {}
    return found
