import json
import os
import sys

import pytest

from deepatlas_tf.datasets.listing import ListedScan, check_listing, read_listing
from deepatlas_tf.types import DataError

HEAD = "subject,image,label,split\n"


@pytest.fixture
def table(tmp_path):
    """write(text, encoding) -> path of a CSV beside a.nii.gz ... f.nii.gz."""
    for name in "abcdef":
        (tmp_path / f"{name}.nii.gz").write_bytes(b"x")

    def write(text, encoding="utf-8"):
        (tmp_path / "scans.csv").write_text(text, encoding=encoding)
        return tmp_path / "scans.csv"

    return write


@pytest.fixture
def folder(tmp_path):
    """make(names of files, labels=None) -> a folder that holds them, with a dataset.json."""

    def make(*names, labels=None):
        for name in names:
            (tmp_path / "D" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "D" / name).write_bytes(b"x")
        if labels is not None:
            (tmp_path / "D" / "dataset.json").write_text(json.dumps({"labels": labels}))
        return tmp_path / "D"

    return make


def test_csv_columns_in_any_order_and_paths_relative_to_it(tmp_path, table, monkeypatch):
    path = table(
        "label,Subject, image ,domain,labelled_classes,split\n"
        f",s1,a.nii.gz,MR,,Train\nb.nii.gz,s2,{tmp_path}/c.nii.gz,CT,3;big one,val\n"
    )
    monkeypatch.chdir(tmp_path)
    found = read_listing("scans.csv")
    assert found.path == path and found.labels == {}
    assert found.scans == (
        ListedScan("s1", tmp_path / "a.nii.gz", None, "train", "MR", (), "line 2"),
        ListedScan("s2", tmp_path / "c.nii.gz", tmp_path / "b.nii.gz", "validation", "CT", ("3", "big_one"), "line 3"),
    )


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_csv_of_spreadsheets(table, delimiter, encoding):
    text = f"{HEAD}é1,a.nii.gz,b.nii.gz,train\r\n,,,\r\n\r\ns2,c.nii.gz,,train\r\n".replace(",", delimiter)
    rows = read_listing(table(text, encoding)).scans
    assert [(row.subject, row.label is None, row.place) for row in rows] == [
        ("é1", False, "line 2"),
        ("s2", True, "line 5"),
    ]


@pytest.mark.parametrize("name", ["labels.csv", "scans_labels.csv"])
def test_class_names_beside_the_csv(tmp_path, table, name):
    (tmp_path / "labels.csv").write_text("number,name\n9,other\n")
    (tmp_path / name).write_text(
        "Label Number,Label Name,more\n0,Unknown,x\n12,Left femur\n\n3,tibia\n11,Left femur\n5,\n"
    )
    labels = read_listing(table(HEAD + "s1,a.nii.gz,,train\n")).labels
    assert labels == {"background": (0, 5), "tibia": (3,), "Left_femur": (11, 12)}
    assert list(labels) == ["background", "tibia", "Left_femur"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["is empty"]),
        ("subject,image,lable\n", ["'lable'", "label"]),
        ("subject,image,notes\n", ["'notes'", "labelled_classes"]),
        ("subject,label\n", ["'image' is missing"]),
        ("subject,image,image\n", ["'image' occurs twice"]),
        ("subject,image,image_t2\n", ["'image' stands beside 'image_t2'", "image_NAME"]),
        ("subject,image_\n", ["unknown column 'image_'"]),
        ("subject,image_t1,image_$\ns1,a.nii.gz,b.nii.gz\n", ["the channel '$' has the character '$'"]),
        ("subject,image_t1,image_t2\ns1,a.nii.gz,\n", ["line 2", "subject s1", "channel t2 is missing", "t1, t2"]),
        ("subject,image_t1,image_t2\ns1,,\n", ["line 2, subject s1: has no image; add it"]),
        ("subject,image_t1,image_t2\ns1,,a.nii.gz\n", ["line 2", "subject s1", "channel t1 is missing"]),
        ("subject,image_t1,image_t2\ns1,a.nii.gz,x.nii.gz\n", ["line 2", "subject s1", "x.nii.gz does not exist"]),
        ("subject,image\ns1\n", ["line 2", "1 cells"]),
        ("subject,image\n\ns1,\n", ["line 3", "no image"]),
        ("subject,image\n,a.nii.gz\n", ["line 2", "no subject"]),
        (HEAD, ["lists no scan"]),
        (
            HEAD + "s1,a.nii.gz,,train\ns2,x.nii.gz,,train\n",
            ["line 3", "subject s2", "image", "x.nii.gz does not exist"],
        ),
        (HEAD + "s1,a.nii.gz,x.nii.gz,train\n", ["line 2", "subject s1", "label map", "x.nii.gz does not exist"]),
        (HEAD + "s1,.,,train\n", ["line 2", "is not a file"]),
        (
            HEAD + "s1,loop.nii.gz,,train\n",
            ["line 2", "loop.nii.gz cannot be reached (Too many levels of symbolic links)"],
        ),
        (HEAD + "s1,a.nii.gz,,train\n\ns1,b.nii.gz,,train\n", ["line 4", "subject s1", "twice", "line 2"]),
        (HEAD + "s1,a.nii.gz,,tryin\n", ["line 2", "'tryin'", "validation"]),
        (
            HEAD + "s1,a.nii.gz,,test\ns2,c.nii.gz,b.nii.gz,test\n",
            ["line 2", "subject s1", "test subject needs a label"],
        ),
        (HEAD + "s1,a.nii.gz,,val\ns2,c.nii.gz,b.nii.gz,train\n", ["validation subject needs a label map"]),
        (HEAD + "s1,a.nii.gz,b.nii.gz,train\ns2,c.nii.gz,d.nii.gz,\n", ["line 3", "no split"]),
        (HEAD + "s1,a.nii.gz,b.nii.gz,test\ns2,c.nii.gz,d.nii.gz,test\n", ["no row has split train"]),
        ("subject,image,labelled_classes\ns1,a.nii.gz,3\n", ["line 2", "no label map"]),
        ("subject,image\ns1,a\0.nii.gz\n", ["\\x00"]),
        ("subject,image\ns1\x1b[2J,a.nii.gz\n", ["line 2", "\\x1b"]),
        ('subject,image\ns1,"a\nb.nii.gz"\n', ["line 3", "path of the image", "line break"]),
        ("subject,image\n$s$,a.nii.gz\n", ["line 2", "the subject '$s$' has the character '$'"]),
        ("subject,image,domain\ns1,a.nii.gz,$x$\n", ["line 2", "the domain '$x$' has the character '$'"]),
        (f"subject,image\n{'s' * 201},a.nii.gz\n", ["line 2", "201 characters"]),
    ],
)
def test_wrong_csv_is_one_line_with_file_and_line(tmp_path, table, text, words):
    (tmp_path / "loop.nii.gz").symlink_to(tmp_path / "loop.nii.gz")
    path = table(text)
    with pytest.raises(DataError) as error:
        check_listing(read_listing(path))
    message = str(error.value)
    assert str(path) in message and all(word in message for word in words) and "\n" not in message


def test_csv_in_another_encoding(table):
    path = table("subject,image\nJos\xe9,a.nii.gz\n", "latin-1")
    with pytest.raises(DataError, match="is no CSV .*UTF-8"):
        read_listing(path)


def test_labelled_classes_are_compared_with_the_declared_ones(tmp_path, table):
    (tmp_path / "labels.csv").write_text("number,name\n1,femur\n2,tibia\n")
    start = "subject,image,label,labelled_classes\n"
    check_listing(read_listing(table(start + "s1,a.nii.gz,b.nii.gz,femur 2\n")))
    with pytest.raises(DataError, match="line 2, subject s1: there is no class 'femr'; there are femur"):
        check_listing(read_listing(table(start + "s1,a.nii.gz,b.nii.gz,femr\n")))


def test_nnunet_folder(tmp_path, folder):
    path = folder(
        *(f"imagesTr/k_00{n}_0000.nii.gz" for n in range(4)),
        *(f"labelsTr/k_00{n}.nii.gz" for n in range(3)),
        *(f"imagesTs/k_00{n}_0000.nii.gz" for n in (5, 6)),
        "labelsTs/k_005.nii.gz",
        "imagesTr/._k_000_0000.nii.gz",
        "imagesTr/notes.txt",
        labels={"background": 0, "femur": 2, "tibia": 1},
    )
    found = read_listing(path)
    assert found.labels == {"background": (0,), "tibia": (1,), "femur": (2,)}
    assert [row.subject for row in found.scans] == ["k_000", "k_001", "k_002", "k_003", "k_005"]
    assert [row.label is None for row in found.scans] == [False, False, False, True, False]
    assert [row.split for row in found.scans] == ["", "", "", "", "test"]
    assert (
        found.scans[0].image == path / "imagesTr/k_000_0000.nii.gz"
        and found.scans[0].label == path / "labelsTr/k_000.nii.gz"
    )
    check_listing(found)


def test_decathlon_folder_whose_names_end_in_four_digits(folder):
    found = read_listing(
        folder("imagesTr/k_0000.nii", "imagesTr/k_0001.nii", "labelsTr/k_0000.nii", "labelsTr/k_0001.nii")
    )
    assert [row.subject for row in found.scans] == ["k_0000", "k_0001"] and found.labels == {}
    check_listing(found)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["imagesTr/a.png"], ["imagesTr", "no .nii"]),
        (
            ["imagesTr/a_0000.nii", "imagesTr/a_0001.nii", "imagesTr/b_0000.nii"],
            ["imagesTr/b_0000.nii", "subject b", "channel 0001 is missing (", "b_0001.nii); ", "all of 0000, 0001"],
        ),
        (
            ["imagesTr/a_0000.nii", "imagesTr/a_0001.nii", "imagesTr/b_0001.nii"],
            ["imagesTr/b_0001.nii", "subject b", "channel 0000 is missing (", "imagesTr/b_0000.nii); "],
        ),
        (["imagesTr/a_0000.nii", "imagesTr/a_0001.nii", "labelsTr/b.nii"], ["subject b", "labelsTr/b.nii", "no image"]),
        (["imagesTr/a_0000.nii", "imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii"], ["subject a", "twice"]),
        (["imagesTr/a.nii", "imagesTr/a.nii.gz"], ["subject a", "imagesTr/a.nii.gz", "twice"]),
        (["imagesTr/a.nii", "labelsTr/a.nii", "labelsTr/a.nii.gz"], ["subject a", "twice"]),
        (["imagesTr/a.nii", "imagesTs/a.nii", "labelsTs/a.nii"], ["subject a", "twice", "imagesTr/a.nii"]),
        (
            ["imagesTr/a.nii", "labelsTr/b.nii"],
            ["D, labelsTr/b.nii, subject b: has no image; add it, or remove"],
        ),
    ],
)
def test_wrong_folder_is_one_line(folder, names, words):
    with pytest.raises(DataError) as error:
        check_listing(read_listing(folder(*names)))
    message = str(error.value)
    assert all(word in message for word in words) and "\n" not in message


def test_csv_of_several_channels(tmp_path, table):
    found = read_listing(table("image_T2,subject,image_T1,label\nb.nii.gz,s1,a.nii.gz,c.nii.gz\n"))
    assert found.channel_names == ("t2", "t1")
    scan = found.scans[0]
    assert scan.images == (tmp_path / "b.nii.gz", tmp_path / "a.nii.gz")
    assert scan.files == [tmp_path / f"{name}.nii.gz" for name in "bca"]
    check_listing(found)
    alone = read_listing(table("subject,image_t1\ns1,a.nii.gz\n"))
    assert alone.channel_names == ("image",) and alone.scans[0].images == (tmp_path / "a.nii.gz",)


CHANNELS = [
    "imagesTr/a_0000.nii",
    "imagesTr/a_0001.nii",
    "labelsTr/a.nii",
    "imagesTs/b_0000.nii",
    "imagesTs/b_0001.nii",
]


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        ({}, ("0000", "0001")),
        ({"channel_names": {"1": "T2 fat", "0": "T1"}}, ("T1", "T2_fat")),
        ({"modality": {"0": "MRI", "1": "CT"}}, ("MRI", "CT")),
        ({"channel_names": {"0": "zscore", "1": "zscore"}}, ("zscore_0000", "zscore_0001")),
        ({"channel_names": ["T1", "T2"]}, ("0000", "0001")),
    ],
)
def test_folder_of_several_channels(folder, entry, names):
    path = folder(*CHANNELS, "labelsTs/b.nii")
    (path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "femur": 1}, **entry}))
    found = read_listing(path)
    assert found.channel_names == names and [scan.subject for scan in found.scans] == ["a", "b"]
    assert found.scans[0].images == (path / "imagesTr/a_0000.nii", path / "imagesTr/a_0001.nii")
    assert found.scans[1].label == path / "labelsTs/b.nii" and found.scans[1].split == "test"
    check_listing(found)


def test_channels_that_dataset_json_does_not_name(folder):
    path = folder(*CHANNELS)
    for entry, message in (
        ({"0": "T1"}, "a_0001.nii: is of a channel that .*dataset.json does not name; there are 0000 T1"),
        ({"0": "T1", "1": "T2", "2": "PD"}, "subject a: channel PD is missing"),
    ):
        (path / "dataset.json").write_text(json.dumps({"channel_names": entry}))
        with pytest.raises(DataError, match=message):
            check_listing(read_listing(path))


def test_numbers_without_a_first_channel_are_names(folder):
    found = read_listing(folder("imagesTr/k_0001.nii", "imagesTr/k_0002.nii"))
    assert [row.subject for row in found.scans] == ["k_0001", "k_0002"] and found.channel_names == ("image",)


def test_rows_are_listed_also_where_they_are_wrong(table):
    found = read_listing(table(HEAD + "s1,a.nii.gz,x.nii.gz,somewhere\ns1,b.nii.gz,,\n"))
    assert [(row.subject, row.split) for row in found.scans] == [("s1", "somewhere"), ("s1", "")]


def test_folder_that_may_not_be_read(folder, monkeypatch):
    """As for another user than root."""
    path = folder("imagesTr/a.nii")

    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.iterdir", refuse)
    with pytest.raises(DataError, match=f"{path}: cannot be read .Permission denied: .*imagesTr"):
        read_listing(path)


@pytest.mark.skipif(sys.platform == "darwin", reason="its file names are UTF-8")
def test_file_name_that_is_no_text(tmp_path):
    """A name in Latin-1 on a disk of UTF-8: Python has half a character for the byte, which no table can hold."""
    for part in ("imagesTr", "labelsTr"):
        (tmp_path / part).mkdir()
        os.close(os.open(os.fsencode(tmp_path / part) + b"/Jos\xe9.nii.gz", os.O_CREAT))
    with pytest.raises(DataError, match="subject .*udce9.* has the character"):
        read_listing(tmp_path)
