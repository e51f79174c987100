"""Whether a run goes on with the settings and the data that it was begun with; written with its first stage."""

import shutil
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deepatlas_tf.datasets.alignment import NONE
from deepatlas_tf.datasets.copies import remember_copy
from deepatlas_tf.datasets.load import DataSet
from deepatlas_tf.keras_stack import versions
from deepatlas_tf.messages import say
from deepatlas_tf.models.build import NetworkFile
from deepatlas_tf.models.networks import Networks, networks_dict, networks_from
from deepatlas_tf.runs.data_record import check_same_data, check_same_grid, data_record, grid_of_networks
from deepatlas_tf.runs.ensemble import FOLDS
from deepatlas_tf.runs.files import replacing, through_json, write_json
from deepatlas_tf.runs.folder import RunFolder
from deepatlas_tf.scans.nifti import save
from deepatlas_tf.training.experiment import Experiment
from deepatlas_tf.training.settings import settings_dict
from deepatlas_tf.types import DataError

# what runs had of before there were these settings
EARLIER_DATA = {"alignment": NONE, "fold": 0, "folds": 0, "full_resolution": False, "max_voxels": None}
EARLIER_STAGE = {"patience": 0, "pseudo_warped": 0.5, "pseudo_instance_steps": 0, "patches": None, "anatomy_from": None}
SHOWN, MOST_NAMES = 3, 6  # settings and classes that a message names


def check_settings(experiment: Experiment, workdir: Path, parts: Collection[str] = ()) -> None:
    """Nothing, or a DataError that says in one line which settings of a run are others.

    Args:
        experiment: the settings that are given now.
        workdir: folder of the run, or of none yet.
        parts: of the settings, such as ``data``, that are compared; none for all.

    Raises:
        DataError: the run has other settings, or checkpoints but no ``experiment.json``; or the folder is that of a
            cross-validation.
    """
    path, instead = RunFolder(workdir).settings_file, f"choose another --workdir, or delete {workdir}"
    if (workdir / FOLDS).exists():
        raise DataError(f"{workdir} is a cross-validation: choose another --workdir, or go on with it by --folds")
    if not path.exists():
        if any(workdir.glob("*/checkpoints/*")):
            raise DataError(f"{workdir} has checkpoints but no {path.name}: {instead}")
        return
    now, found = through_json(settings_dict(experiment)), RunFolder(workdir).settings()
    found["networks"] = through_json(networks_dict(networks_from(found.get("networks", {}))))  # with all settings
    found["data"] = EARLIER_DATA | found["data"]
    found["stages"] = [EARLIER_STAGE | stage for stage in found["stages"]]
    before, now = ({key: one.get(key) for key in parts or now} for one in (found, now))
    different = list(_differences(before, now))
    if different:
        rest = f" and {len(different) - SHOWN} more" if len(different) > SHOWN else ""
        text = f"{', '.join(different[:SHOWN])}{rest}"
        raise DataError(f"{workdir} is a run with other settings ({text}): {instead}")


def check_classes(networks: Networks, dataset: DataSet) -> None:
    """Nothing, or a DataError where training would begin with a segmentation network of a run on other classes.

    Args:
        networks: of the experiment; those that are files in the folder of a run are looked at.
        dataset: the scans.
    """
    file = networks.segmentation
    if not isinstance(file, NetworkFile) or len(Path(file.path).absolute().parents) < 3:
        return
    run = RunFolder(Path(file.path).absolute().parents[2])  # RUN/STAGE/nets/segmentation.keras
    if not run.model_file.exists():
        return
    known, given = (tuple(names)[1:] for names in (run.model()["class_names"], dataset.class_names))
    if known != given:
        raise DataError(
            f"the segmentation network of {run.path} knows {_some(known)}, the scans have {_some(given)}: name the "
            "same classes in the same order, or begin with new networks, without --init-from"
        )


def _some(names: Sequence[str]) -> str:
    """The first of the classes; all at once would be a long line."""
    rest = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"{', '.join(names[:MOST_NAMES])}{rest}" if names else "no class"


def _differences(before: Any, now: Any, path: str = "") -> Iterator[str]:
    """What is different, by the paths that ``--set`` takes: ``data.labels: 5; now: 3``."""
    if before == now:
        return
    before, now = _by_name(before), _by_name(now)
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*now, *before)):
            yield from _differences(before.get(key), now.get(key), f"{path}.{key}".removeprefix("."))
    elif isinstance(before, Mapping) or isinstance(now, Mapping):
        yield f"{path}: {'there' if before is not None else 'not there'}; now {'there' if now is not None else 'not'}"
    else:
        yield f"{path}: {before}; now: {now}"


def _by_name(value: Any) -> Any:
    """Stages as a mapping from their names; any other value as it is."""
    if isinstance(value, list) and value and all(isinstance(one, dict) and "name" in one for one in value):
        return {one["name"]: one for one in value}
    return value


def write_settings(experiment: Experiment, workdir: Path) -> None:
    """Write ``experiment.json``, or raise DataError where there is one with other settings."""
    check_settings(experiment, workdir)
    path = RunFolder(workdir).settings_file
    if not path.exists():
        settings = through_json(settings_dict(experiment))
        write_json(path, {"experiment": settings, "versions": versions(), "git_commit": _git_commit()})


def _git_commit() -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    where = Path(__file__).parent
    found = subprocess.run([git, "-C", str(where), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


def write_data(dataset: DataSet, used: Sequence[str], folder: RunFolder) -> None:
    """Write ``model.json`` and ``data.json``, or check that those which are there are of the same data.

    Where a run has networks or checkpoints already, its files are first compared with the data; then only those that
    are missing are written.

    Args:
        dataset: the scans.
        used: training subjects whose label map is used.
        folder: the folder of the run.

    Raises:
        DataError: if the run was begun on other data.
    """
    started, record = folder.is_started(), data_record(dataset, used)
    where = str(folder.path)
    if started and folder.model_file.exists():
        check_same_grid(folder.model(), dataset, where)
    recorded = folder.data() if started else None
    if recorded:
        check_same_data(recorded, record, where)
    remember_copy(dataset.builder, folder.path / "data")
    if dataset.alignment != NONE and not (started and folder.reference_file.exists()):
        with replacing(folder.reference_file) as temporary:
            save(temporary, *dataset.reference_scan()[:2])
    for path, content in ((folder.model_file, grid_of_networks(dataset)), (folder.data_file, record)):
        if not (started and path.exists()):
            write_json(path, content)
    missing = record["classes_without_label"] if used else []  # without labels no class is learned, which is said
    if missing:
        say(f"no training label map that is used has {', '.join(missing)}: this cannot be learned")
