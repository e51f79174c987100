"""A run is tied to its data and to one process, before anything of it is trained or written."""

import dataclasses

import pytest

from deepatlas_tf.datasets.load import DataSet, load_dataset
from deepatlas_tf.experiments import get_experiment
from deepatlas_tf.keras_stack import tf
from deepatlas_tf.runs.files import write_json
from deepatlas_tf.runs.folder import RunFolder
from deepatlas_tf.runs.lock import locked
from deepatlas_tf.training import loop, same_run
from deepatlas_tf.training.build_stream import used_labels
from deepatlas_tf.types import DataError

EXPERIMENT = get_experiment("phantom_knee", tiny=True)


class Edited(DataSet):
    """A data set in which the label map of the first training subject is empty."""

    def samples(self, split):
        def edit(sample):
            first = sample["subject"] == self.subjects["train"][0]
            return {**sample, "label": tf.where(first, tf.zeros_like(sample["label"]), sample["label"])}

        return super().samples(split).map(edit)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return load_dataset(
        "phantom_knee", data_dir=tmp_path_factory.mktemp("data"), shape=(16, 16), spacing=(8, 8), n_subjects=8
    )


@pytest.fixture
def finished(dataset, tmp_path):
    """A run whose stages have all left their folders of networks, which are not looked into."""
    same_run.write_settings(EXPERIMENT, tmp_path)
    folder = RunFolder(tmp_path)
    same_run.write_data(dataset, used_labels(dataset, EXPERIMENT), folder)
    for stage in folder.stages():
        stage.nets.mkdir(parents=True)
    return folder


@pytest.mark.slow
def test_other_data_are_refused_and_nothing_is_written(dataset, finished, capsys):
    files = {path: path.read_bytes() for path in (finished.model_file, finished.data_file)}
    edited = Edited(**{field.name: getattr(dataset, field.name) for field in dataclasses.fields(dataset)})
    for other, message in (
        (edited, f"scan or label map changed of {dataset.subjects['train'][0]} in the train split"),
        (dataclasses.replace(dataset, spacing=(4.0, 4.0)), "its voxel size: 8.0, 8.0; now: 4.0, 4.0"),
        (dataclasses.replace(dataset, class_names=dataset.class_names[::-1]), "its classes: background"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            loop.train_experiment(EXPERIMENT, other, finished.path)
        assert "\n" not in str(caught.value) and str(finished.path) in str(caught.value)
        assert files == {path: path.read_bytes() for path in files}
    loop.train_experiment(EXPERIMENT, dataset, finished.path)
    assert capsys.readouterr().out.count("already trained") == len(EXPERIMENT.stages)


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["model_file", "data_file"])
def test_a_run_of_an_earlier_version_gets_what_it_lacks(lost, dataset, finished):
    path = getattr(finished, lost)
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(DataError, match="its voxel size"):
        loop.train_experiment(EXPERIMENT, dataclasses.replace(dataset, spacing=(4.0, 4.0)), finished.path)
    assert not path.exists()
    loop.train_experiment(EXPERIMENT, dataset, finished.path)
    assert path.read_bytes() == content


def test_a_run_without_networks_may_get_other_data(dataset, tmp_path):
    """As long as nothing was learned, nothing is lost."""
    same_run.write_settings(EXPERIMENT, tmp_path)
    folder = RunFolder(tmp_path)
    for spacing in ((4.0, 4.0), (8.0, 8.0)):
        same_run.write_data(dataclasses.replace(dataset, spacing=spacing), dataset.labelled["train"], folder)
        assert folder.model()["spacing"] == folder.data()["spacing"] == list(spacing)


def test_a_class_without_a_label_is_said(dataset, tmp_path, capsys):
    same_run.write_settings(EXPERIMENT, tmp_path)
    more = dataclasses.replace(dataset, class_names=(*dataset.class_names, "meniscus"))
    same_run.write_data(more, dataset.labelled["train"], RunFolder(tmp_path))
    assert "no training label map that is used has meniscus: this cannot be learned" in capsys.readouterr().out


def test_two_runs_do_not_train_in_one_folder(dataset, tmp_path):
    with locked(RunFolder(tmp_path).lock_file), pytest.raises(DataError, match="is training in"):
        loop.train_experiment(EXPERIMENT, dataset, tmp_path)
    assert not RunFolder(tmp_path).settings_file.exists()


def test_other_settings_are_named_with_both_values(tmp_path):
    same_run.write_settings(EXPERIMENT, tmp_path)
    before = RunFolder(tmp_path).settings_file.read_bytes()
    stages = [dataclasses.replace(EXPERIMENT.stages[0], steps=77), *EXPERIMENT.stages[1:-1]]
    changed = dataclasses.replace(EXPERIMENT, seed=7, stages=tuple(stages))
    with pytest.raises(DataError) as caught:
        same_run.check_settings(changed, tmp_path)
    first, last = EXPERIMENT.stages[0], EXPERIMENT.stages[-1]
    assert str(caught.value) == (
        f"{tmp_path} is a run with other settings (stages.{first.name}.steps: {first.steps}; now: 77, "
        f"stages.{last.name}: there; now not, seed: 0; now: 7): choose another --workdir, or delete {tmp_path}"
    )
    same_run.check_settings(changed, tmp_path, ("data", "networks"))
    data = dataclasses.replace(EXPERIMENT.data, labels=9, fold=2, max_voxels=5, n_subjects=3)
    with pytest.raises(DataError, match=r"\(data.n_subjects: \d+; now: 3, .* and 1 more\)"):
        same_run.write_settings(dataclasses.replace(EXPERIMENT, data=data), tmp_path)
    assert RunFolder(tmp_path).settings_file.read_bytes() == before


def test_checkpoints_without_settings_are_not_gone_on_with(tmp_path):
    """As where somebody deletes experiment.json and gives another seed."""
    (tmp_path / "deepatlas" / "checkpoints").mkdir(parents=True)
    same_run.check_settings(EXPERIMENT, tmp_path)
    (tmp_path / "deepatlas" / "checkpoints" / "epoch-3.index").touch()
    with pytest.raises(DataError, match="has checkpoints but no experiment.json: choose another --workdir, or delete"):
        same_run.write_settings(EXPERIMENT, tmp_path)
    assert not RunFolder(tmp_path).settings_file.exists()


def test_a_segmentation_network_of_other_classes_is_not_begun_with(dataset, tmp_path):
    """Neither where they have other names nor where they are in another order."""
    net = tmp_path / "run" / "deepatlas" / "nets" / "segmentation.keras"
    networks = dataclasses.replace(EXPERIMENT.networks, segmentation=str(net))
    same_run.check_classes(networks, dataset)  # a file of whom nothing is known
    same_run.check_classes(EXPERIMENT.networks, dataset)
    about = {"shape": [16, 16], "spacing": [8, 8]}
    names = list(dataset.class_names)
    write_json(RunFolder(tmp_path / "run").model_file, {**about, "class_names": names})
    same_run.check_classes(networks, dataset)
    for other in (["background", *names[:0:-1]], ["background", *(f"part_{k}" for k in range(9))]):
        write_json(RunFolder(tmp_path / "run").model_file, {**about, "class_names": other})
        with pytest.raises(DataError) as caught:
            same_run.check_classes(networks, dataset)
        assert f"{tmp_path / 'run'} knows {other[1]}, {other[2]}" in str(caught.value)
        assert f"the scans have {names[1]}, {names[2]}" in str(caught.value) and "\n" not in str(caught.value)
    assert "part_5 and 3 more, the scans" in str(caught.value)
