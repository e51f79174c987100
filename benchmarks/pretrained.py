"""Put the networks of a finished run into the package, under a name that ``--model`` and ``--init-from`` take.

    python benchmarks/evidence.py run A5 --data DATA --work runs/evidence
    python benchmarks/pretrained.py runs/evidence/hippocampus_5_deepatlas_seed0 hippocampus

Copies settings, versions, classes, grid, the means of the evaluation and the last network of each task, some MB, to
``deepatlas_tf/pretrained/NAME``, with a model card that names the data and their licence. No scan, no label map and no
list of subjects goes with them; a run whose scans are aligned has the image of a person as its reference, and is
refused.
"""

import argparse
import shutil
from pathlib import Path

from deepatlas_tf.export.card import metadata, model_card
from deepatlas_tf.pretrained import FOLDER, ORIGIN, origin
from deepatlas_tf.runs.folder import TASKS, RunFolder
from deepatlas_tf.runs.model import TrainedModel


def pack(run: Path, name: str, output: Path = FOLDER) -> Path:
    """Write ``output/name`` from the finished run and return it; what is there is replaced, but for ``ORIGIN.md``.

    Raises SystemExit where scans of the run are aligned to a reference, or ``output/name`` has no ``ORIGIN.md``.
    """
    model = TrainedModel(run)
    if model.grid.reference is not None:
        raise SystemExit(f"{run}: its scans are aligned to the image of a person, which cannot be given away")
    folder = RunFolder(output / name)
    text = origin(folder.path)
    if not text:
        raise SystemExit(f"write to {folder.path / ORIGIN} first which data the networks are of, and their licence")
    shutil.rmtree(folder.path)
    folder.summary_file.parent.mkdir(parents=True)
    for source, target in (
        (model.folder.settings_file, folder.settings_file),
        (model.folder.model_file, folder.model_file),
        (model.folder.summary_file, folder.summary_file),
    ):
        shutil.copyfile(source, target)
    stages = {task: model.stage_of(task) for task in TASKS}
    for task, stage in stages.items():
        net = folder.stage(stage).net(task)
        net.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model.folder.stage(stage).net(task), net)
    (folder.path / ORIGIN).write_text(f"{text}\n", encoding="utf-8")
    card = model_card({**metadata(model, stages, 1), "origin": text})
    (folder.path / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    return folder.path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("name", metavar="NAME")
    args = parser.parse_args()
    folder = pack(args.run, args.name)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
