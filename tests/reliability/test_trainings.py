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


@pytest.mark.long
def test_a_run_that_was_killed_ends_as_one_that_was_not(scripts, tmp_path):
    def command(name):
        return scripts.trained.train_command(METHOD, tmp_path / "data", tmp_path / name)

    seconds, kills = scripts.trained.train(command("quiet")), 0
    while not kills:  # the quiet run prepared the data, too: a victim may have ended before
        shutil.rmtree(tmp_path / "victim", ignore_errors=True)
        seconds /= 2
        kills = scripts.trained.train_and_kill(command("victim"), [seconds])
    assert scripts.trained.digests(tmp_path / "victim") == scripts.trained.digests(tmp_path / "quiet")


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


def train_segmentation(scans, workdir, *options):
    command = ["train", "--tiny", "-q", "--dataset", "nifti", "--data-dir", str(scans), "--workdir", str(workdir)]
    command += ["--method", "segmentation", "--set", "data.shape=(16,16,16)", "--set", "data.spacing=(7.5,9.0,7.5)"]
    assert main([*command, *options]) == 0


def losses(scripts, workdir) -> dict:
    """Every term of every stage in every epoch, without what was measured on validation subjects."""
    paths = sorted(workdir.glob("*/metrics.jsonl"))
    return {path.parent.name: scripts.trained.training_rows(path, with_validation=False) for path in paths}


@pytest.mark.long
def test_labels_of_other_splits_are_in_no_loss_and_the_seed_counts(scripts, tmp_path):
    """Poisoned test labels change no byte of a network; poisoned validation labels choose among epochs, no more."""
    found = {}
    for name, poisoned in (("clean", ()), ("test", ("test",)), ("validation", ("validation",))):
        scans, found[name] = write_slices(tmp_path / f"scans_{name}", poisoned), tmp_path / name
        train_segmentation(scans, found[name])
    nets = {name: scripts.trained.digests(workdir) for name, workdir in found.items()}
    keras = [name for name in nets["clean"] if name.endswith(".keras")]
    assert keras and all(nets["test"][name] == nets["clean"][name] for name in keras)
    tables = [name for name in nets["clean"] if name.startswith("evaluation")]
    assert any(nets["test"][name] != nets["clean"][name] for name in tables)  # the poison is there
    clean = losses(scripts, found["clean"])
    assert clean and clean == losses(scripts, found["test"]) == losses(scripts, found["validation"])

    # The same seed gives the same networks, as here and in a run that was killed; another one gives others
    train_segmentation(tmp_path / "scans_clean" / "scans.csv", tmp_path / "seed", "--seed", "1")
    other = scripts.trained.digests(tmp_path / "seed")
    assert all(other[name] != nets["clean"][name] for name in keras)
