"""What is said of a path that is no list of scans: what is missing there, and which path may be meant."""

import difflib
import os
from pathlib import Path

PARTS = ("imagesTr", "imagesTs", "labelsTr", "labelsTs")
BIDS_FILE = "dataset_description.json"


def whole_of(path: Path) -> Path | None:
    """The data set of which a folder is a part: ``imagesTr`` of nnU-Net, ``derivatives/NAME`` of BIDS; else None."""
    path = Path(os.path.abspath(path))
    if path.name in PARTS and (path.parent / "imagesTr").is_dir():
        return path.parent
    folders = [path, *path.parents]
    roots = (one.parent for one in folders if one.name == "derivatives" and (one.parent / BIDS_FILE).is_file())
    return next(roots, None)


def only_a_part(path: Path, whole: Path) -> str:
    """One line on a folder that is a part of the data set ``whole``."""
    return f"{path}: is only a part of a data set; give the whole of it, {whole}"


def not_a_listing(path: Path) -> str:
    """One line on a path that is neither a CSV nor a folder of a known layout."""
    if not path.exists():
        return f"{path}: there is no such file or folder; check the path"
    if not path.is_dir():
        return f"{path}: is neither a file nor a folder; give the CSV or the folder of your scans"
    whole = whole_of(path)
    if whole is not None:
        return only_a_part(path, whole)
    if any(path.glob("sub-*")):
        return f"{path}: has sub-* folders, but no {BIDS_FILE}; add it (BIDS asks for it), or list the scans in a CSV"
    return f"{path}: there is no imagesTr in it, and it is no data set in BIDS; list the scans in a CSV"


def no_folder_of_label_maps(folder: Path) -> str | None:
    """That a folder as for nnU-Net has no ``labelsTr``, and which one may be meant; None where it has one."""
    if not (folder / "imagesTr").is_dir() or (folder / "labelsTr").is_dir():
        return None
    names = [path.name for path in folder.iterdir() if path.is_dir() and path.name not in PARTS]
    near = difflib.get_close_matches("labelsTr", names, n=1)
    hint = f"rename {near[0]}" if near else "add it, if there are label maps"
    return f"there is no folder labelsTr in {folder}; {hint}"
