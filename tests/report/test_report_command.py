"""``deepatlas report``: the page holds what it promises, and needs nothing else."""

import base64
import collections
import csv
import html.parser
import io
import json
import shutil

import numpy as np
import pytest
from matplotlib.image import imread, imsave

from deepatlas_tf.cli import main
from deepatlas_tf.report import write
from deepatlas_tf.report.tables import all_settings
from deepatlas_tf.runs.summary import read_run

pytestmark = pytest.mark.slow  # the run that they share is evaluated


class Page(html.parser.HTMLParser):
    """Headings, tables as lists of rows, images as (alt, bytes), the text, and each address that is referred to."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.headings, self.tables, self.images, self.links = [], [], {}, [], []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.links += [attributes[name] for name in ("src", "href") if name in attributes]
        if tag == "img":
            kind, _, data = attributes["src"].partition(",")
            assert kind == "data:image/png;base64"
            self.images.append((attributes["alt"], base64.b64decode(data, validate=True)))
        elif tag == "table":
            self.rows = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "caption":
            self.caption = ""
        self.tags += [tag] if tag not in ("img", "meta") else []

    def handle_endtag(self, tag):
        assert self.tags.pop() == tag
        if tag == "table":
            self.tables[self.caption] = self.rows

    def handle_data(self, data):
        self.text += data
        if self.tags[-1:] == ["h2"]:
            self.headings.append(data)
        elif self.tags[-1:] == ["caption"]:
            self.caption += data
        elif self.tags[-1:] in (["td"], ["th"]):
            self.rows[-1][-1] += data


def report(*arguments):
    return main(["report", *map(str, arguments)])


@pytest.fixture(scope="module")
def page(evaluated_run, tmp_path_factory):
    """Of the evaluated run, written into its own folder."""
    assert report(evaluated_run, "--data-dir", evaluated_run.parent / "data") == 0
    return Page((evaluated_run / "report.html").read_text(encoding="utf-8"))


def rows_of(run, task):
    with (run / "evaluation" / f"{task}.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.long
def test_the_page_is_whole_and_needs_no_network(page):
    assert not page.tags and page.headings == ["The run", "Results", "Training", "Cases"]
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    for alt, png in page.images:
        image = imread(io.BytesIO(png))
        assert alt and min(image.shape[:2]) > 100 and image.std() > 0.01


def test_what_was_run_is_told(page, evaluated_run):
    record = json.loads((evaluated_run / "experiment.json").read_text())
    told = {row[0]: row[1] for row in page.tables["What was run"]}
    assert told["data set"] == "phantom_knee" and told["kind of data"].startswith("synthetic")
    assert told["label maps used in training"] == "5 of 18 training subjects"
    assert told["subjects"] == (
        "18 train (18 with a label map), 3 validation (3 with a label map), 3 test (3 with a label map)"
    )
    assert told["seed"] == "0" and told["grid"] == "24 x 24 voxels of 5 x 5 mm"
    assert f"tensorflow {record['versions']['tensorflow']}" in told["versions"]
    assert json.dumps(record, indent=2) in page.text and "A trial: no stage has more than 8 steps" in page.text


def test_the_tables_are_the_means_of_the_rows(page, evaluated_run):
    values = collections.defaultdict(list)
    for row in rows_of(evaluated_run, "registration"):
        values[row["method"], row["class"]].append(float(row["dice"]))
    heading, *lines = page.tables["Registration Dice by class"]
    assert heading == ["class", "identity", "registration unsupervised", "DeepAtlas"]
    for line in lines:
        found = values["deepatlas", line[0].replace(" ", "_")]
        assert line[3] == f"{np.mean(found):.3f} ± {np.std(found):.3f}"
    summary = json.loads((evaluated_run / "evaluation" / "summary.json").read_text())
    table = {row[0]: row for row in page.tables["All methods"]}
    dice = table["DeepAtlas"][table["method"].index("registration Dice")]
    assert dice == f"{summary['deepatlas']['registration']['dice']['mean']:.3f}"
    assert table["identity"][1] == "-"


def test_best_median_and_worst_are_shown(page, evaluated_run):
    means = collections.defaultdict(list)
    for row in rows_of(evaluated_run, "segmentation"):
        if row["method"] == "deepatlas":
            means[row["subject"]].append(float(row["dice"]))
    order = sorted(means, key=lambda subject: (np.nanmean(means[subject]), subject))
    shown = {"Best": order[-1], "Median": order[(len(order) - 1) // 2], "Worst": order[0]}
    assert len(set(shown.values())) == 3
    texts = [alt for alt, _ in page.images]
    for rank, subject in shown.items():
        dice = np.nanmean(means[subject])
        assert f"{rank} segmentation: {subject}, Dice {dice:.3f}." in texts
        for what in ("onto", "where the lines of the fixed grid lie", "Jacobian determinant"):
            assert sum(text.startswith(f"{rank} registration: ") and what in text for text in texts) == 1
    volumes = page.tables["Volumes, predicted by DeepAtlas"]
    assert volumes[0][2:4] == ["manual cm2", "predicted cm2"]  # the phantom is 2D here
    assert {row[0] for row in volumes[1:]} == {f"{rank.lower()}: {subject}" for rank, subject in shown.items()}


def test_pictures_and_text_say_that_the_data_are_synthetic(page):
    assert "The images are synthetic" in page.text and "phantom_knee, synthetic" in page.text


def test_stages_and_curves_of_a_run_that_trains(page):
    """Of five stages, three have networks, and one has curves."""
    table = {row[0]: row for row in page.tables["Stages"]}
    assert table["deepatlas"][2:6] == ["finished", "8 of 8", "-", "0.250"] and table["deepatlas"][6] == "6 s"
    assert table["semi_deepatlas"][2] == "not started, or in its first epoch"
    assert "Not finished: registration_weak" in page.text
    assert sum(alt.startswith("Each term of the loss") for alt, _ in page.images) == 1


def test_a_run_of_which_nothing_is_finished(unfinished_run, tmp_path, capsys):
    assert report(unfinished_run, "-o", tmp_path / "new folder" / "bérìcht.html") == 0
    page = Page((tmp_path / "new folder" / "bérìcht.html").read_text(encoding="utf-8"))
    assert page.headings == ["The run", "Results", "Training"] and len(page.images) == 1
    assert "epoch 1 of 2, about 2 s left" in page.text and "Nothing is evaluated yet" in page.text
    assert "The run is not finished" in capsys.readouterr().out


def test_a_run_without_test_subjects(unfinished_run, evaluated_run, tmp_path):
    """Evaluating it would not help, so it is not asked for; the masks of training subjects are shown."""
    record = json.loads((evaluated_run / "data.json").read_text())
    record["subjects"]["test"], record["labelled"]["test"] = {}, []
    (unfinished_run / "data.json").write_text(json.dumps(record))
    (unfinished_run / "figures").mkdir()
    imsave(unfinished_run / "figures" / "pseudo_masks.png", np.eye(7))
    png = (unfinished_run / "figures" / "pseudo_masks.png").read_bytes()
    assert report(unfinished_run, "-o", tmp_path / "report.html", "-q") == 0
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "There are no test subjects" in page.text and "valuated yet" not in page.text
    assert [alt.partition(":")[0] for alt, picture in page.images if picture == png] == [
        "Pseudo masks of training subjects"
    ]


@pytest.fixture
def run_without_test(evaluated_run, tmp_path):
    """The finished run, as if all its test subjects were for training; five of these have a label map in use."""
    run = tmp_path / "without test"
    shutil.copytree(evaluated_run, run, ignore=shutil.ignore_patterns("evaluation", "report.html"))
    record = json.loads((run / "data.json").read_text())
    record["subjects"]["test"], record["labelled"]["test"] = {}, []
    (run / "data.json").write_text(json.dumps(record))
    return run


def test_scans_of_training_are_shown_where_nothing_can_be_measured(run_without_test, evaluated_run):
    assert report(run_without_test, "--data-dir", evaluated_run.parent / "data") == 0
    page = Page((run_without_test / "report.html").read_text(encoding="utf-8"))
    assert page.headings == ["The run", "Results", "Training", "Scans of training"]
    record = json.loads((run_without_test / "data.json").read_text())
    unseen = [subject for subject in record["subjects"]["train"] if subject not in record["used_labels"]][:3]
    drawn = [alt for alt, _ in page.images if alt.startswith("Segmentation of")]
    assert drawn == [f"Segmentation of {subject}, not measured." for subject in unseen] and len(drawn) == 3


def test_scans_that_are_not_there_are_said_where_nothing_can_be_measured(run_without_test, monkeypatch, capsys):
    monkeypatch.setattr("deepatlas_tf.datasets.load.tfds.core.constants.DATA_DIR", "no such folder")
    record = json.loads((run_without_test / "experiment.json").read_text())
    record["experiment"]["data"]["dataset"] = "oasis"
    (run_without_test / "experiment.json").write_text(json.dumps(record))
    assert report(run_without_test) == 0
    assert "No pictures of scans: " in capsys.readouterr().out


def test_a_run_whose_scans_are_not_there(evaluated_run, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    shutil.copytree(evaluated_run, run)
    record = json.loads((run / "experiment.json").read_text())
    record["experiment"]["data"]["dataset"] = "oasis"
    (run / "experiment.json").write_text(json.dumps(record))
    monkeypatch.setattr("deepatlas_tf.datasets.load.tfds.core.constants.DATA_DIR", str(tmp_path / "nothing"))
    assert report(run, "-o", tmp_path / "out.html") == 0
    page = Page((tmp_path / "out.html").read_text(encoding="utf-8"))
    assert "All methods" in page.tables and "No pictures of cases" in page.text
    assert "No pictures of cases" in capsys.readouterr().out


@pytest.mark.long
def test_a_pdf(evaluated_run, tmp_path):
    pytest.importorskip("fpdf")
    output = tmp_path / "report.pdf"
    assert report(evaluated_run, "--data-dir", evaluated_run.parent / "data", "-o", output, "-q") == 0
    data = output.read_bytes()
    assert data.startswith(b"%PDF-") and data.rstrip().endswith(b"%%EOF")
    assert data.count(b"/Subtype /Image") >= 12 and b"/Outlines" in data


def test_settings_as_one_table(evaluated_run):
    table = all_settings(read_run(evaluated_run))
    rows = dict(table.rows[1:])
    assert rows["data.shape"] == "[24, 24]" and rows["networks.registration.name"] and rows["stages: steps"] == "8"
    assert (
        "deepatlas deepatlas" in rows["stages: method"]
        and "segmentation_baseline segmentation" in rows["stages: method"]
    )
    assert len(table.rows) < 130


@pytest.mark.parametrize(
    ("arguments", "status", "hint"),
    [
        (["RUN", "-o", "report.docx"], 2, "ends in .html or .pdf"),
        (["RUN", "-o", "there.html"], 1, "pass --overwrite"),
        (["RUN", "-o", "file/report.html"], 1, "cannot write"),
        (["RUN", "-o", "folder.html", "--overwrite"], 1, "is a folder"),
        (["nowhere"], 1, "is not the folder of a run"),
        (["there.html"], 1, "is not the folder of a run"),
        (["RUN", "--split", "validation", "--data-dir", "DATA", "-o", "x.html"], 2, "is of the test split"),
    ],
)
def test_a_wrong_call_is_one_line(arguments, status, hint, evaluated_run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("there.html", "file"):
        (tmp_path / name).write_text("old")
    (tmp_path / "folder.html").mkdir()
    places = {"RUN": evaluated_run, "DATA": evaluated_run.parent / "data"}
    assert report(*(places.get(word, word) for word in arguments)) == status
    error = capsys.readouterr().err.strip()
    assert hint in error and error.startswith("error: ") and "\n" not in error
    assert {path.name for path in tmp_path.iterdir()} == {"there.html", "file", "folder.html"}
    assert (tmp_path / "there.html").read_text() == "old"


def test_a_folder_that_cannot_be_written_is_found_before_the_work(unfinished_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    monkeypatch.setattr(write, "report_of", None)
    assert report(unfinished_run, "-o", tmp_path / "report.html") == 1
    assert "Permission denied" in capsys.readouterr().err


def test_it_is_whole_or_not_there(unfinished_run, tmp_path, monkeypatch, capsys):
    old = tmp_path / "report.html"
    old.write_text("old")

    def full(document):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "html_page", full)
    assert report(unfinished_run, "-o", old, "--overwrite") == 1
    assert "No space left" in capsys.readouterr().err and old.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "unfinished"}
