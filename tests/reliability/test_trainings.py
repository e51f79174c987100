"""What a training depends on: its seed and its training labels; not on interruptions, not on labels of other splits.

Each is the tiny form of a promise in docs/reliability.md, on synthetic slices.
"""

import shutil

import nibabel as nib
import numpy as np
import pytest

from deepatlas_tf.cli import main
from deepatlas_tf.phantoms.knee import knee

pytestmark = pytest.mark.slow
METHOD = "mean_teacher"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Where the synthetic data set is kept: prepared once."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def quiet(scripts, data, tmp_path_factory):
    """Digests of a run that nothing disturbed, and the seconds that it took."""
    workdir = tmp_path_factory.mktemp("quiet") / "run"
    seconds = scripts.trained.train(scripts.trained.train_command(METHOD, data, workdir))
    return scripts.trained.digests(workdir), seconds


def test_a_run_that_was_killed_ends_as_one_that_was_not(scripts, data, quiet, tmp_path):
    (expected, seconds), workdir = quiet, tmp_path / "run"
    moment, kills = 0.5 * seconds, 0
    while not kills:  # the quiet run prepared the data, too: a victim may have ended before
        shutil.rmtree(workdir, ignore_errors=True)
        kills = scripts.trained.train_and_kill(scripts.trained.train_command(METHOD, data, workdir), [moment])
        moment /= 2
    assert scripts.trained.digests(workdir) == expected


def test_another_seed_gives_another_result(scripts, data, quiet, tmp_path):
    """The same one gives the same result, also where it was killed: see the test before."""
    scripts.trained.train(scripts.trained.train_command(METHOD, data, tmp_path / "run", "--seed", "1"))
    other, (one, _) = scripts.trained.digests(tmp_path / "run"), quiet
    nets = [name for name in one if name.endswith(".keras")]
    assert len(nets) >= 2 and all(other[name] != one[name] for name in nets)


def write_slices(folder, poisoned: tuple[str, ...]):
    """Ten synthetic knees in three splits; in the poisoned splits the label maps are of another anatomy."""
    rows = ["subject,image,label,split"]
    for index in range(10):
        split = "test" if index < 2 else "validation" if index < 4 else "train"
        image, label = knee(index, (16, 16, 16), (7.5, 9.0, 7.5))
        if split in poisoned:
            label = np.roll(label[::-1], 3, axis=1)
        affine = np.diag([7.5, 9.0, 7.5, 1.0])
        for name, volume in ((f"k{index}.nii.gz", image), (f"k{index}_label.nii.gz", label.astype(np.uint8))):
            folder.mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(volume, affine), folder / name)
        rows.append(f"k{index},k{index}.nii.gz,k{index}_label.nii.gz,{split}")
    (folder / "scans.csv").write_text("\n".join(rows) + "\n")
    return folder / "scans.csv"


def losses(scripts, workdir) -> dict:
    """Every term of every stage in every epoch, without what was measured on validation subjects."""
    paths = sorted(workdir.glob("*/metrics.jsonl"))
    return {path.parent.name: scripts.trained.training_rows(path, with_validation=False) for path in paths}


def test_labels_of_other_splits_are_in_no_loss(scripts, tmp_path):
    """Poisoned test labels change no byte of a network; poisoned validation labels choose among epochs, no more."""
    found = {}
    for name, poisoned in (("clean", ()), ("test", ("test",)), ("validation", ("validation",))):
        scans, workdir = write_slices(tmp_path / f"scans_{name}", poisoned), tmp_path / name
        command = ["train", "--tiny", "-q", "--dataset", "nifti", "--data-dir", str(scans), "--workdir", str(workdir)]
        command += ["--method", "segmentation"]
        assert main([*command, "--set", "data.shape=(16,16,16)", "--set", "data.spacing=(7.5,9.0,7.5)"]) == 0
        found[name] = workdir
    nets = {name: scripts.trained.digests(workdir) for name, workdir in found.items()}
    keras = [name for name in nets["clean"] if name.endswith(".keras")]
    assert keras and all(nets["test"][name] == nets["clean"][name] for name in keras)
    tables = [name for name in nets["clean"] if name.startswith("evaluation")]
    assert any(nets["test"][name] != nets["clean"][name] for name in tables)  # the poison is there
    clean = losses(scripts, found["clean"])
    assert clean and clean == losses(scripts, found["test"]) == losses(scripts, found["validation"])
