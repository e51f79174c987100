"""The networks that come with the package: found by name, with their licence, and worth what their card says."""

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from deepatlas_tf.export.card import metadata, model_card
from deepatlas_tf.metrics.overlap import dice
from deepatlas_tf.pretrained import FOLDER, model_folder, origin, pretrained_names
from deepatlas_tf.run import starting_from
from deepatlas_tf.runs.files import read_json
from deepatlas_tf.runs.model import TrainedModel, open_model
from deepatlas_tf.trained import Run
from deepatlas_tf.types import DataError

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def test_a_name_is_the_folder_of_the_package_unless_a_run_lies_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "hippocampus" in pretrained_names()
    name = Path("hippocampus")
    assert model_folder(name) == FOLDER / name and model_folder(Path("runs/other")) == Path("runs/other")
    (tmp_path / name).mkdir()
    assert model_folder(name) == FOLDER / name  # a folder of scans, say
    (tmp_path / name / "experiment.json").touch()
    assert model_folder(name) == name
    with pytest.raises(DataError, match=r"hipocampus is neither .* nor the name of networks .* \(.*hippocampus"):
        open_model(Path("hipocampus"))


def test_training_begins_with_them():
    settings = starting_from(Path("hippocampus"))
    files = [Path(text.partition("=")[2]) for text in settings if text.startswith("networks.")]
    assert len(files) == 2 and all(path.is_file() and FOLDER in path.parents for path in files)


@pytest.mark.parametrize("name", pretrained_names())
def test_what_goes_with_them(name):
    """A card with the licence, measured values that are those of kept results, no name of a subject, a few MB."""
    folder = FOLDER / name
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"## Origin and licence\n\n{origin(folder)}\n" in card and "licence" in origin(folder) and "research" in card
    about = metadata(TrainedModel(folder), {"segmentation": "deepatlas", "registration": "deepatlas"}, 1)
    assert origin(folder) in model_card(about)  # of an export
    experiment = read_json(folder / "experiment.json")
    kept = [path for path in RESULTS.glob("*/experiment.json") if read_json(path) == experiment]
    assert len(kept) == 1
    summary = read_json(folder / "evaluation" / "summary.json")
    assert summary == read_json(kept[0].parent / "summary.json")
    last = experiment["experiment"]["stages"][-1]["name"]
    for task in ("segmentation", "registration"):
        assert f"| mean | {summary[last][task]['dice']['mean']:.3f} |" in card
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 9e6
    texts = [path.read_text(encoding="utf-8") for path in files if path.suffix in {".json", ".md"}]
    assert not any(re.search(r"hippocampus_\d{3}|/home|/work|/tmp", text) for text in texts)


@pytest.mark.long
def test_they_segment_and_register_real_scans(real_data):
    """Two scans, by name, from their files: the Dice of a network that has learned; registration gains, too."""
    run, folder = Run("hippocampus"), real_data / "Task04_Hippocampus"
    images = sorted((folder / "imagesTr").glob("hippocampus_*.nii.gz"))[:2]
    labels = [nib.load(folder / "labelsTr" / path.name) for path in images]
    truth = [np.asarray(label.dataobj).astype(int) for label in labels]
    found = [np.asarray(run.segment(image).dataobj).astype(int) for image in images]
    assert min(dice(a, b, 3).mean() for a, b in zip(found, truth, strict=True)) > 0.75
    field = run.register(images[0], images[1]).field
    assert field.shape[:3] == truth[1].shape and np.isfinite(np.asarray(field.dataobj)).all()
