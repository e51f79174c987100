"""Scans in the Brain Imaging Data Structure (BIDS): anatomical images, label maps of derivatives, participants.

Images are ``sub-ID[/ses-ID]/anat/*_T1w.nii.gz``, or of the one other kind that there is; label maps are files
``*_dseg.nii.gz`` of the same subject and session within ``derivatives``. The classes stand in a ``*dseg.tsv`` with the
columns ``index`` and ``name``. A column ``split`` of ``participants.tsv``, which BIDS leaves to its users, says who
trains. Source: BIDS 1.10, "Magnetic Resonance Imaging data" and "Imaging data type derivatives".
"""

from collections.abc import Sequence
from pathlib import Path

from deepatlas_tf.datasets.listing import SPLIT_WORDS, ListedScan, Listing
from deepatlas_tf.datasets.not_a_listing import BIDS_FILE, only_a_part, whole_of
from deepatlas_tf.scans.class_names import Labels, collect_labels, csv_lines, label_number
from deepatlas_tf.types import DataError

PREFERRED = "T1w"
OF_LABELS = ("dseg", "probseg", "mask")  # kinds of files that are no images


def is_bids(folder: Path) -> bool:
    """Whether a folder is a data set in BIDS: it has a description, and subjects."""
    return (folder / BIDS_FILE).is_file() and any(folder.glob("sub-*"))


def read_bids(folder: Path) -> Listing:
    """The anatomical image of each subject and session, with its label map where there is one.

    A subject with several sessions has one scan here, of the first, since scans of one person in two splits would
    measure what was trained on.

    Raises:
        DataError: there is no image, more than one kind of image, or more than one image or label map of a subject;
            the folder is one of derivatives that holds label maps only.
    """
    images = _files(folder, "sub-*/**/anat/sub-*_*.nii*")
    kinds = sorted({_kind(path) for path in images})
    kind = PREFERRED if PREFERRED in kinds else kinds[0] if len(kinds) == 1 else None
    if kind in OF_LABELS:
        whole = whole_of(folder)
        text = f"{folder}: holds label maps ({kind}), no images; give the root of the data set"
        raise DataError(text if whole is None else only_a_part(folder, whole))
    if kind is None:
        problem = f"images are {', '.join(kinds)}: list one kind in a CSV" if kinds else "no image is in sub-*/anat"
        raise DataError(f"{folder}: {problem}")
    splits, maps = _splits(folder), _files(folder, "derivatives/**/sub-*_dseg.nii*")
    scans = []
    for subject in sorted({_entity(path, "sub") for path in images}):
        own = [path for path in images if _entity(path, "sub") == subject and _kind(path) == kind]
        session = min((_entity(path, "ses") for path in own), default="")
        image = _one(folder, subject, f"{kind} images", [p for p in own if _entity(p, "ses") == session])
        found = [p for p in maps if (_entity(p, "sub"), _entity(p, "ses")) == (subject, session)]
        label = _one(folder, subject, "label maps", found)
        if image is not None:
            name = f"sub-{subject}"
            scans.append(ListedScan(name, image, label, splits.get(name, ""), "", (), image.name))
    file, labels = _classes(folder)
    return Listing(folder, tuple(scans), labels, labels_file=file)


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if path.name.endswith((".nii", ".nii.gz")))


def _kind(path: Path) -> str:
    """The suffix of BIDS, such as ``T1w``."""
    return path.name.partition(".")[0].rpartition("_")[2]


def _entity(path: Path, key: str) -> str:
    """The value of ``key-value`` in a file's name; empty where it has none."""
    parts = path.name.partition(".")[0].split("_")
    return next((part.removeprefix(f"{key}-") for part in parts if part.startswith(f"{key}-")), "")


def _one(folder: Path, subject: str, what: str, found: Sequence[Path]) -> Path | None:
    if len(found) > 1:
        names = " and ".join(str(path.relative_to(folder)) for path in found[:2])
        raise DataError(f"{folder}: sub-{subject} has several {what}, {names}: list those to be used in a CSV")
    return found[0] if found else None


def _splits(folder: Path) -> dict[str, str]:
    """The column ``split`` of participants.tsv by subject; {} where there is none."""
    path = folder / "participants.tsv"
    lines = csv_lines(path) if path.is_file() else []
    heads = [cell.strip().lower() for cell in lines[0][1]] if lines else []
    if not {"participant_id", "split"} <= set(heads):
        return {}
    who, which = heads.index("participant_id"), heads.index("split")
    rows = [row for _, row in lines[1:] if len(row) == len(heads)]
    return {row[who].strip(): SPLIT_WORDS.get(row[which].strip().lower(), row[which].strip()) for row in rows}


def _classes(folder: Path) -> tuple[Path | None, Labels]:
    """The file that names the classes, with their numbers; None and {} where there is none."""
    files = sorted((folder / "derivatives").glob("**/*dseg.tsv"))
    if not files:
        return None, {}
    lines = csv_lines(files[0])
    heads = [cell.strip().lower() for cell in lines[0][1]] if lines else []
    if not {"index", "name"} <= set(heads):
        raise DataError(f"{files[0]}: the columns index and name are needed, which BIDS asks for")
    number, name = heads.index("index"), heads.index("name")
    rows = [(line, row) for line, row in lines[1:] if len(row) == len(heads)]
    pairs = [(label_number(f"{files[0]}, line {line}", row[number]), row[name]) for line, row in rows]
    return files[0], collect_labels(files[0], pairs)
