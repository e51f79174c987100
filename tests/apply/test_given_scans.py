"""Which files a command takes for one scan."""

import pytest

from deepatlas_tf.apply.given_scans import GivenScan, channel_files, complete_scans, find_scans
from deepatlas_tf.types import DataError

TWO = ("T1", "T2")


@pytest.fixture
def folder(tmp_path):
    """make(names) -> the folder, with files of these names."""

    def make(*names):
        for name in names:
            (tmp_path / name).write_bytes(b"x")
        return tmp_path

    return make


def test_one_channel_is_one_file(folder):
    place = folder("a_0000.nii.gz", "a_0001.nii.gz", "b,c.nii", "._b.nii", "notes.txt")
    found = find_scans([place], ["image"])
    assert found == [GivenScan(name, (place / name,)) for name in ("a_0000.nii.gz", "a_0001.nii.gz", "b,c.nii")]
    with pytest.raises(DataError, match="have one name"):
        find_scans([place / "b,c.nii", place], ["image"])


def test_several_channels_by_number_comma_and_csv(folder):
    place = folder("a_0000.nii.gz", "a_0001.nii", "b_0000.nii.gz", "b_0001.nii.gz", "t1.nii", "t2.nii")
    (place / "scans.csv").write_text("subject,image_t2,image_t1\nk,t2.nii,t1.nii\n")
    a, b = (place / "a_0000.nii.gz", place / "a_0001.nii"), (place / "b_0000.nii.gz", place / "b_0001.nii.gz")
    listed = (place / "t1.nii", place / "t2.nii")
    assert channel_files(place / "a_0001.nii", TWO) == channel_files(place / "a_0000.nii.gz", TWO) == a
    assert channel_files(place / f"t1.nii,{place}/t2.nii", TWO) == listed
    paths = [*b, a[1], place / f"t1.nii,{place}/t2.nii", place / "scans.csv"]
    assert find_scans(paths, TWO) == [
        GivenScan("b.nii.gz", b),
        GivenScan("a.nii.gz", a),
        GivenScan("t1.nii", listed),
        GivenScan("k.nii.gz", listed),
    ]
    (place / "t1.nii").unlink(), (place / "t2.nii").unlink()
    assert [scan.name for scan in find_scans([place], TWO)] == ["a.nii.gz", "b.nii.gz"]


def test_scans_without_a_channel_are_told_apart(folder):
    three, place = ("T1", "T2", "PD"), folder("a_0000.nii", "a_0002.nii", *(f"b_000{k}.nii" for k in range(3)))
    scans, incomplete = complete_scans([place], three)
    assert [scan.name for scan in scans] == ["b.nii"]
    assert incomplete == {
        place / "a_0000.nii": f"{place / 'a'}: channel T2 is missing: there is no a_0001.nii.gz"
    }  # once, though it has two files
    with pytest.raises(DataError, match="channel T2 is missing"):
        find_scans([place], three)
    with pytest.raises(DataError, match="channel T2 is missing"):  # of all scans
        complete_scans([place / "a_0000.nii"], three)


def test_a_csv_of_one_channel(folder):
    place = folder("x.nii")
    (place / "scans.csv").write_text("subject,image\nk,x.nii\n")
    assert find_scans([place / "scans.csv"], ["image"]) == [GivenScan("k.nii.gz", (place / "x.nii",))]


@pytest.mark.parametrize(
    ("text", "channels", "message"),
    [
        ("a_0000.nii", TWO, "a: channel T2 is missing: there is no a_0001.nii.gz"),
        ("t1.nii", TWO, r"t1.nii: the model takes 2 channels \(T1, T2\): name the files of a scan NAME_0000"),
        ("b_0002.nii", TWO, r"b_0002.nii: the model takes 2 channels \(T1, T2\)"),
        ("t1.nii,t1.nii,t1.nii", TWO, r"3 images given, and the model takes 2 channels \(T1, T2\)"),
        ("t1.nii,x.nii", TWO, "there is no file x.nii"),
        ("t1.nii,t1.nii", ("image",), "2 images are given, and the model takes one"),
        (
            "one.csv",
            TWO,
            r"one.csv: the model takes 2 channels \(T1, T2\): call the columns of images image_t1,image_t2",
        ),
        ("two.csv", ("image",), "two.csv: the model takes one channel: call the columns of images image"),
        (
            "two.csv",
            ("FLAIR", "T2"),
            r"takes 2 channels \(FLAIR, T2\): call the columns of images image_flair,image_t2",
        ),
        ("missing.csv", TWO, "missing.csv, line 2, subject k: channel t2 is missing"),
        ("name.csv", TWO, "subject a/b: no file can have this name"),
        ("empty", TWO, "empty holds no scan"),
    ],
)
def test_wrong_numbers_of_channels_are_one_line(folder, monkeypatch, text, channels, message):
    place = folder("a_0000.nii", "t1.nii", *(f"b_000{k}.nii" for k in range(3)))
    (place / "empty").mkdir()
    (place / "one.csv").write_text("subject,image\nk,t1.nii\n")
    for name, row in (("two", "k,t1.nii,t1.nii"), ("missing", "k,t1.nii,"), ("name", "a/b,t1.nii,t1.nii")):
        (place / f"{name}.csv").write_text(f"subject,image_t1,image_t2\n{row}\n")
    monkeypatch.chdir(place)
    with pytest.raises(DataError, match=message) as error:
        find_scans([type(place)(text)], channels)
    assert "\n" not in str(error.value)
