"""Makes small synthetic knees in the layouts that ``oai_knee`` reads, for its tests.

    python -m deepatlas_tf.datasets.oai_knee.make_dummy_data FOLDER [--layout originals]

A knee is a few boxes, given in mm around its centre and so exactly known on any grid. It differs from its mirror image:
the lateral half of a right knee lies to the patient's right and is the smaller one.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.spatial.transform import Rotation

CENTRE = np.array([90.0, 10.0, -20.0])  # mm of a right knee: right, anterior, superior; a left one is at x = -90
SIZE, SPACING = (10, 12, 14), (4.0, 3.0, 2.5)  # along the axes that lead to left, posterior, superior
BOXES = {  # number in OAIZIB-CM: lowest and highest corner of a right knee, mm from its centre; the later one wins
    1: ((-14, -12, 4), (12, 12, 15)),  # femur
    3: ((-12, -10, -15), (10, 10, -4)),  # tibia
    2: ((-14, -12, 1), (12, 12, 4)),  # femoral cartilage
    4: ((-12, -10, -4), (-1, 10, -1)),  # medial tibial cartilage
    5: ((1, -10, -4), (10, 10, -1)),  # lateral tibial cartilage
}


def knee_label(points: np.ndarray, side: str = "right") -> np.ndarray:
    """The numbers of OAIZIB-CM (...) at world ``points`` (..., 3) in mm, RAS."""
    own = np.where(side == "left", [-1, 1, 1], 1) * points - CENTRE
    label = np.zeros(points.shape[:-1], np.uint8)
    for number, (low, high) in BOXES.items():
        label[((own >= low) & (own < high)).all(-1)] = number
    return label


def scan_affine(side: str, degrees: float) -> np.ndarray:
    """(4, 4), RAS, of a scan whose axes lead to left, posterior, superior but for an oblique turn by ``degrees``."""
    turn = Rotation.from_euler("xyz", [degrees, -degrees, degrees / 2], degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-1, -1, 1]) * SPACING
    centre = np.where(side == "left", [-1, 1, 1], 1) * CENTRE
    affine[:3, 3] = centre - affine[:3, :3] @ (np.array(SIZE) - 1) / 2
    return affine


def knee_scan(side: str, degrees: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image (SIZE) int16, label (SIZE) uint8 with the numbers of OAIZIB-CM, affine (4, 4)."""
    affine = scan_affine(side, degrees)
    grid = np.stack(np.meshgrid(*map(np.arange, SIZE), indexing="ij"), -1)
    label = knee_label(nib.affines.apply_affine(affine, grid), side)
    image = 100 + 60.0 * label + np.random.default_rng(seed).normal(0, 5, SIZE)
    return image.astype(np.int16), label, affine


def make_oaizib_cm(folder: Path, n_train: int = 8, n_test: int = 2) -> Path:
    """``imagesTr``, ``labelsTr``, ``imagesTs``, ``labelsTs`` with right knees, and their ``kneeSideInfo.csv``."""
    for number in range(1, n_train + n_test + 1):
        image, label, affine = knee_scan("right", 0, number)
        part, name = ("Tr" if number <= n_train else "Ts"), f"oaizib_{number:03d}"
        for path, volume in ((f"images{part}/{name}_0000.nii.gz", image), (f"labels{part}/{name}.nii.gz", label)):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(volume, affine), folder / path)
    lines = [f"oaizib_{number:03d}.nii.gz,right\n" for number in range(1, n_train + n_test + 1)]
    (folder / "kneeSideInfo.csv").write_text("".join(lines))
    return folder


def make_originals(folder: Path, sides: Mapping[str, str], degrees: float = 8) -> Path:
    """``images/SUBJECT/DATE/SERIES/001...`` and ``masks/SUBJECT.segmentation_masks.mhd`` for each subject's side.

    As in OAI-ZIB the masks have no pose and one number for all tibial cartilage.
    """
    import SimpleITK as sitk

    (folder / "masks").mkdir(parents=True)
    for seed, (subject, side) in enumerate(sides.items()):
        image, label, affine = knee_scan(side, degrees, seed)
        series = folder / "images" / subject / "20050112" / f"{10000000 + seed}"
        write_series(series, image, affine, {"0008|103e": f"SAG_3D_DESS_{side.upper()}", "0020|000e": f"1.2.{seed}"})
        mask = sitk.GetImageFromArray(np.minimum(label, 4).T)
        mask.SetSpacing(SPACING)
        sitk.WriteImage(mask, folder / "masks" / f"{subject}.segmentation_masks.mhd")
    return folder


def write_series(folder: Path, image: np.ndarray, affine: np.ndarray, tags: Mapping[str, str]) -> None:
    """Sagittal slices ``001``, ``002``, ... of ``image`` (X, Y, Z) int16.

    Its axes lead, but for an oblique turn, to left, posterior, superior (``affine`` (4, 4), RAS). Rows of a slice run
    to posterior, columns to inferior, as the OAI's do.
    """
    import SimpleITK as sitk

    folder.mkdir(parents=True)
    lps = np.diag([-1, -1, 1, 1]) @ affine
    sizes = nib.affines.voxel_sizes(affine)
    left, posterior, superior = (lps[:3, :3] / sizes).T
    for number, plane in enumerate(image, start=1):
        corner = lps[:3, 3] + (number - 1) * sizes[0] * left + (image.shape[2] - 1) * sizes[2] * superior
        own = {
            "0008|0018": f"{tags.get('0020|000e', '1.2')}.{number}",
            "0008|0060": "MR",
            "0020|0013": str(number),
            "0020|0032": "\\".join(f"{value:.9g}" for value in corner),
            "0020|0037": "\\".join(f"{value:.9g}" for value in (*posterior, *-superior)),
        }
        pixels = sitk.GetImageFromArray(np.ascontiguousarray(plane.T[::-1]))  # (rows, columns)
        pixels.SetSpacing((sizes[1], sizes[2]))
        for tag, value in {**own, **tags}.items():
            pixels.SetMetaData(tag, value)
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / f"{number:03d}"))
        writer.Execute(pixels)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layout", choices=("oaizib_cm", "originals"), default="oaizib_cm")
    arguments = parser.parse_args()
    if arguments.layout == "originals":
        make_originals(arguments.folder, {f"90000{n:02d}": ("left", "right")[n % 2] for n in range(8)})
    else:
        make_oaizib_cm(arguments.folder)
