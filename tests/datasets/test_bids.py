"""Listings of a folder in BIDS: who has which image, label map and split; what cannot be told is named."""

import json

import numpy as np
import pytest

from deepatlas_tf.cli import main
from deepatlas_tf.datasets.listing import check_listing, read_listing
from deepatlas_tf.types import DataError

DERIVATIVES = "derivatives/manual"


@pytest.fixture
def bids(tmp_path, write_nifti):
    """A data set of four subjects, one of them in two sessions; three have a label map."""
    root = tmp_path / "bids"
    rng = np.random.default_rng(0)

    def add(place, name):
        volume = rng.integers(0, 3, (8, 8, 8)) if "dseg" in name else rng.gamma(5, 20, (8, 8, 8))
        write_nifti(root / place / "anat" / name, volume.astype(np.uint8 if "dseg" in name else np.float32))

    for subject in ("01", "02", "03"):
        add(f"sub-{subject}", f"sub-{subject}_T1w.nii.gz")
        add(f"{DERIVATIVES}/sub-{subject}", f"sub-{subject}_desc-manual_dseg.nii.gz")
    add("sub-01", "sub-01_T2w.nii.gz")
    for session in ("a", "b"):
        add(f"sub-04/ses-{session}", f"sub-04_ses-{session}_T1w.nii")
    (root / "dataset_description.json").write_text(json.dumps({"Name": "made up", "BIDSVersion": "1.10.0"}))
    (root / "participants.tsv").write_text("participant_id\tage\tsplit\nsub-01\t30\ttrain\nsub-03\t40\tTest\n")
    classes = ["index\tname\tcolor", "0\tbackground\t#000", "1\tleft ball\t#fff", "2\tball\t#00f"]
    (root / DERIVATIVES / "dseg.tsv").write_text("\n".join(classes) + "\n")
    return root


def test_images_label_maps_classes_and_splits(bids):
    listing = read_listing(bids)
    found = [(s.subject, s.image.name, s.label and s.label.name, s.split) for s in listing.scans]
    assert found == [
        ("sub-01", "sub-01_T1w.nii.gz", "sub-01_desc-manual_dseg.nii.gz", "train"),
        ("sub-02", "sub-02_T1w.nii.gz", "sub-02_desc-manual_dseg.nii.gz", ""),
        ("sub-03", "sub-03_T1w.nii.gz", "sub-03_desc-manual_dseg.nii.gz", "test"),
        ("sub-04", "sub-04_ses-a_T1w.nii", None, ""),
    ]
    assert listing.labels == {"background": (0,), "left_ball": (1,), "ball": (2,)}


def test_it_is_validated_as_it_would_be_trained(bids, tmp_path, capsys):
    (bids / "participants.tsv").unlink()
    assert main(["data", "validate", str(bids), "-o", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "4 subjects, 3 with a label map, 2 classes" in told and "train 4 (3 with a label map)" in told


def test_a_folder_of_label_maps_is_told_the_root(bids, capsys):
    """A description makes the derivatives a data set in BIDS too, whose only files are label maps."""
    (bids / DERIVATIVES / "dataset_description.json").write_text("{}")
    with pytest.raises(DataError, match=f"manual: is only a part of a data set; give the whole of it, {bids}$"):
        read_listing(bids / DERIVATIVES)
    assert main(["data", "validate", str(bids / DERIVATIVES)]) == 1
    moved = bids / DERIVATIVES
    moved = moved.rename(bids.parent / "maps")
    with pytest.raises(DataError, match="maps: holds label maps .dseg., no images; give the root of the data set$"):
        read_listing(moved)


def test_a_data_set_without_its_description(bids):
    (bids / "dataset_description.json").unlink()
    with pytest.raises(DataError, match="bids: has sub-. folders, but no dataset_description.json; add it"):
        read_listing(bids)


def test_a_subject_that_participants_does_not_list(bids):
    with pytest.raises(DataError, match="subject sub-02: has no split in .*participants.tsv; give one to every row"):
        check_listing(read_listing(bids))


def test_another_kind_is_taken_where_it_is_the_only_one(bids):
    for path in bids.rglob("*_T1w*"):
        path.rename(path.with_name(path.name.replace("T1w", "FLAIR")))
    (bids / "sub-01" / "anat" / "sub-01_T2w.nii.gz").unlink()
    assert {scan.image.name.partition(".")[0].rpartition("_")[2] for scan in read_listing(bids).scans} == {"FLAIR"}


def test_what_cannot_be_told_is_named(bids):
    more = bids / DERIVATIVES / "sub-02" / "anat" / "sub-02_desc-auto_dseg.nii.gz"
    more.write_bytes(b"")
    with pytest.raises(DataError, match="sub-02 has several label maps, .*desc-auto.* and .*desc-manual"):
        read_listing(bids)
    more.unlink()
    again = bids / "sub-02" / "anat" / "sub-02_run-2_T1w.nii.gz"
    again.write_bytes(b"")
    with pytest.raises(DataError, match="sub-02 has several T1w images"):
        read_listing(bids)
    again.unlink()
    (bids / DERIVATIVES / "dseg.tsv").write_text("number\tname\n1\tball\n")
    with pytest.raises(DataError, match="columns index and name"):
        read_listing(bids)
    for path in bids.glob("sub-*/**/*_T1w*"):
        path.rename(path.with_name(path.name.replace("T1w", "FLAIR")))
    with pytest.raises(DataError, match="images are FLAIR, T2w: list one kind in a CSV"):
        read_listing(bids)
