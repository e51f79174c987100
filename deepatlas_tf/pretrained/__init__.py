"""Networks that come with the package, by name: ``deepatlas segment scan.nii.gz --model hippocampus -o segmented``.

Each folder here is the part of a run's folder that is needed to apply, to fine-tune and to export its networks, with a
model card that says what they were trained on, under which licence, and what they reach. ``benchmarks/pretrained.py``
makes it from a finished run.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
ORIGIN = "ORIGIN.md"  # in the folder of the networks


def pretrained_names() -> tuple[str, ...]:
    """The names of the networks that come with the package."""
    return tuple(sorted(path.parent.name for path in FOLDER.glob("*/experiment.json")))


def model_folder(path: Path) -> Path:
    """``path``; or, where no run lies there and it is one of :func:`pretrained_names`, the folder of those networks."""
    is_name = str(path) in pretrained_names() and not (path / "experiment.json").exists()
    return FOLDER / path if is_name else path


def origin(folder: Path) -> str:
    """On what the networks of a folder were trained, and under which licence they are; empty of a run of one's own."""
    path = folder / ORIGIN
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""
