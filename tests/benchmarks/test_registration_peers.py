"""benchmarks/registration_peers.py: fields of the peers in our convention, and the choice on validation pairs."""

import functools
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))  # scripts, not a package

import registration_peers  # noqa: E402
from peers import folder as layout  # noqa: E402
from peers import ours, run, score, shown, tools  # noqa: E402
from peers.settings import METHODS, Method  # noqa: E402

from deepatlas_tf.runs.predict import warp_image  # noqa: E402
from deepatlas_tf.types import DataError  # noqa: E402

SHAPE, SPACING = (20, 24, 16), (2.0, 2.5, 3.0)


def blob(centre):
    at = np.moveaxis(np.indices(SHAPE), 0, -1)
    return np.exp(-(((at - centre) / (3.0, 4.0, 2.5)) ** 2).sum(-1)).astype(np.float32)


def smooth_field(shape=SHAPE):
    rng = np.random.default_rng(0)
    u = np.stack([gaussian_filter(rng.normal(size=shape), 6) for _ in range(3)], axis=-1)
    return u * 1.5 / u.std() + (1.0, -1.5, 0.5)


def itk_warped(moving, u):
    """SimpleITK's own resampling by a field in mm."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(moving.T))
    vectors = sitk.GetImageFromArray(np.ascontiguousarray((u * SPACING).transpose(2, 1, 0, 3)), isVector=True)
    for one in (image, vectors):
        one.SetSpacing(SPACING)
    transform = sitk.DisplacementFieldTransform(sitk.Image(vectors))
    return sitk.GetArrayFromImage(sitk.Resample(image, image, transform, sitk.sitkLinear)).T


def test_a_field_of_itk_is_in_voxels_along_our_axes():
    field = np.zeros((16, 24, 20, 3))  # (z, y, x, component)
    field[3, 2, 1] = (2.0, 5.0, -9.0)  # mm along x, y, z
    u = tools.from_itk(field, SPACING)
    assert u.shape == (*SHAPE, 3)
    np.testing.assert_allclose(u[1, 2, 3], (1.0, 2.0, -3.0))
    assert np.count_nonzero(u) == 3


def test_warps_of_itk_and_ours_agree_and_another_axis_order_does_not():
    moving, u = blob((10, 12, 8)), smooth_field()
    found = tools.Found(u, itk_warped(moving, u), 0.0, 0.0)
    assert tools.difference(found, moving) < 1e-5
    np.testing.assert_allclose(
        warp_image(moving[..., None], u.astype(np.float32))[..., 0], tools.warped_by(moving, u), atol=1e-5
    )
    for wrong in (-u, u[..., ::-1], u * SPACING):
        assert tools.difference(tools.Found(wrong, found.warped, 0.0, 0.0), moving) > 10 * run.MOST_DIFFERENCE


def test_an_affine_of_nifti_positions_is_one_of_voxels_and_follows_a_field():
    # in NIfTI's space: x grows to the right, where these images grow to the left
    matrix = np.eye(4)
    matrix[:3, 3] = (4.0, -5.0, 6.0)
    matrix[0, 0] = 1.5
    voxels = tools.from_ras(matrix, SPACING)
    np.testing.assert_allclose(voxels @ (4, 0, 0, 1), (4 * 1.5 - 2.0, 2.0, 2.0, 1.0))
    u = np.zeros((*SHAPE, 3))
    u[4, 5, 6] = (2.0, 0.0, -1.0)
    composed = tools.affine_after(u, voxels)
    np.testing.assert_allclose(composed[4, 5, 6], ((4 + 2) * 1.5 - 2.0 - 4, 2.0, -1.0 + 2.0))
    np.testing.assert_allclose(composed[0, 5, 6], (-2.0, 2.0, 2.0))


def test_pairs_are_taken_evenly():
    assert ours.evenly(range(20), 4) == [0, 5, 10, 15]
    assert ours.evenly(range(3), 8) == ours.evenly(range(3), None) == [0, 1, 2]


@pytest.fixture
def out(tmp_path, monkeypatch):
    """Two scans, one pair of each split; a peer with a right, a useless and a failing setting."""
    methods = {
        "right or wrong": Method(
            "stub", ("numpy",), {"useless": {}, "right": {"shift": 2.0}, "fails": {"shift": None}}
        ),
        "missing": Method("stub", ("no-such-package",), {"defaults": {}}),
    }

    def stub(fixed, moving, spacing, settings):
        if settings.get("shift", 0.0) is None:
            raise RuntimeError("cannot")
        u = np.zeros((*fixed.shape, 3))
        u[..., 1] = settings.get("shift", 0.0)
        return tools.Found(u, tools.warped_by(moving, u), 1.5, 3.0)

    monkeypatch.setitem(tools.TOOLS, "stub", stub)
    for module in (run, score):
        monkeypatch.setattr(module, "METHODS", methods)
    monkeypatch.setattr(run, "_in_own_process", lambda folder, method: run.run_method(folder, method) or 0)
    found, pairs, scans, weights = layout.PeersFolder(tmp_path / "out"), [], {}, {}
    for split in layout.SPLITS:
        for name, centre in (("fixed", (10, 10, 8)), ("moving", (10, 12, 8))):
            scan = f"{split}-{name}"
            layout.write_volume(found.image_file(scan), blob(centre), SPACING)
            layout.write_volume(found.label_file(scan), (blob(centre) > 0.5).astype(np.uint8), SPACING)
            scans[scan], weights[scan] = {"subject": scan, "split": split}, [1.0, 1.0]
        sides = {side: f"{split}-{side}" for side in ("moving", "fixed")}
        pairs.append({"pair": f"{split}-000", "split": split, **sides})
    about = {"dataset": "made_up", "synthetic": True, "class_names": ["background", "blob"], "shape": list(SHAPE)}
    about |= {"spacing": list(SPACING), "scans": scans, "label_weights": weights, "pairs": pairs}
    layout.write_json(found.pairs_file, about)
    return found


def test_the_best_setting_on_validation_pairs_is_measured_on_test_pairs(out, capsys):
    run.run_all(out, run.METHODS)
    assert not out.field_file("right or wrong", "right", "test-000").exists()
    assert score.choose(out) == {"right or wrong": "right"}
    with pytest.raises(DataError, match="run the peers again"):
        score.result(out)
    run.run_all(out, run.METHODS)
    layout.write_field(out.field_file("run: stage", "ours", "test-000"), np.zeros((*SHAPE, 3)), seconds=0.1)
    layout.write_json(out.ours_file, {"run: stage": {"run": "run"}})
    result, rows = score.result(out)
    peer = result["methods"]["right or wrong"]
    assert peer["setting"] == "right" and peer["test"]["dice"]["mean"] == 1.0 and peer["seconds"]["median"] == 1.5
    assert peer["validation"]["fails"] == {"dice": None, "seconds": None}
    assert peer["validation"]["useless"]["dice"] < peer["validation"]["right"]["dice"] == 1.0
    for method in ("identity", "run: stage"):
        assert result["methods"][method]["test"]["dice"]["mean"] == peer["validation"]["useless"]["dice"]
    assert result["left_out"] == {"missing": "no-such-package is not installed"}
    assert {row["method"] for row in rows} == set(result["methods"])
    assert "missing is left out: no-such-package is not installed" in capsys.readouterr().out
    assert out.failure_file("right or wrong", "fails", "validation-000").read_text() == "RuntimeError: cannot\n"


def test_what_is_there_is_not_done_again(out, monkeypatch):
    run.run_method(out, "right or wrong")
    monkeypatch.setitem(tools.TOOLS, "stub", None)
    before = {path: path.stat().st_mtime_ns for path in out.path.rglob("*.npz")}
    run.run_method(out, "right or wrong")
    assert len(before) == 2 and all(path.stat().st_mtime_ns == time for path, time in before.items())


def test_a_field_that_is_not_what_the_tool_did_is_refused(out, monkeypatch):
    right = tools.TOOLS["stub"]

    def turned_round(*arguments):
        found = right(*arguments)
        return tools.Found(-found.u, found.warped, 0.0, 0.0)

    monkeypatch.setitem(tools.TOOLS, "stub", turned_round)
    run.run_method(out, "right or wrong")
    assert "own warped image" in out.failure_file("right or wrong", "right", "validation-000").read_text()
    assert not out.field_file("right or wrong", "right", "validation-000").exists()


def test_fields_of_aligned_scans_are_brought_to_the_grid_of_the_peers(tmp_path, monkeypatch):
    names = {split: tuple(f"{split}{i}" for i in range(2)) for split in ("train", *layout.SPLITS)}

    def samples(split, aligned=False):
        for index, name in enumerate(names[split]):
            label = (blob((10, 10 + 2 * index, 8)) > 0.5).astype(np.int32)
            sample = {"image": blob((10, 10, 8))[..., None], "label": label, "label_weight": np.ones(2, np.float32)}
            matrix = np.eye(4)
            matrix[1, 3] = -2 * index  # of the plain grid: the network sees all scans in one place
            plain = {"plain_label": label, "plain_to_network": matrix} if aligned else {}
            yield {**sample, **plain, "subject": name.encode()}

    about = {"name": "made_up", "shape": SHAPE, "spacing": SPACING, "class_names": ("background", "blob")}
    about |= {
        "channel_names": ("image",),
        "synthetic": True,
        "subjects": names,
        "labelled": names,
        "domains": dict.fromkeys(names["test"], ""),
    }
    plain = SimpleNamespace(**about, alignment="none", samples=lambda split: Listed(samples(split)))
    aligned = SimpleNamespace(**about, alignment="affine", measured=lambda split: samples(split, aligned=True))
    run_folder = SimpleNamespace(path=tmp_path / "brains", data=dict, record=dict, model=lambda: grid_of(about))
    run_folder.settings = lambda: {"evaluation": {"pairs_per_subject": 1}, "data": {}, "seed": 0}
    registrars = {"identity": lambda moving, fixed: np.zeros((*SHAPE, 3), np.float32)}
    for name, value in {
        "dataset_of_run": lambda *_: aligned,
        "load_dataset": lambda *_, **__: plain,
        "RunFolder": lambda _: run_folder,
        "load_predictors": lambda *_: SimpleNamespace(registrars=registrars),
    }.items():
        monkeypatch.setattr(ours, name, value)
    found = layout.PeersFolder(tmp_path / "out")
    for _ in range(2):  # another run on the same data is added
        ours.write(tmp_path / "brains", found, ours.Refinement(), {})
    assert list(found.stored(found.ours_file)) == ["brains: alignment"]
    dice = {
        method: score.measure(found, found.about(), method, "ours", "test")["summary"]["dice"]["mean"]
        for method in ("identity", "brains: alignment")
    }
    assert dice["identity"] < 0.8 and dice["brains: alignment"] == 1.0


class Listed(list):
    """In place of a ``tf.data.Dataset``."""

    def __init__(self, samples):
        super().__init__(samples)
        self.as_numpy_iterator = self.__iter__


def grid_of(about):
    return {name: list(about[name]) for name in ("class_names", "shape", "spacing")}


def test_an_error_is_one_line(out, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["registration_peers.py", "score", str(out.path)])
    monkeypatch.setattr(registration_peers, "use_two_cores", lambda: None)
    with pytest.raises(SystemExit, match="choose them first"):
        registration_peers.main()


def test_table_and_figure_say_synthetic(out, tmp_path, monkeypatch):
    for _ in range(2):
        run.run_all(out, run.METHODS)
        score.choose(out)
    arguments = ["score", str(out.path), "--name", "x", "--results", str(tmp_path / "results")]
    monkeypatch.setattr(sys, "argv", ["registration_peers.py", *arguments])
    monkeypatch.setattr(registration_peers, "use_two_cores", lambda: None)
    registration_peers.main()
    kept = layout.PeersFolder(tmp_path).stored(tmp_path / "results" / "x.json")
    assert kept["methods"]["right or wrong"]["setting"] == "right" and {"machine", "commit", "versions"} <= set(kept)
    assert {path.name for path in (tmp_path / "results").iterdir()} == {"x.json", "x.csv", "x.png"}
    text = shown.markdown(kept)
    assert "made_up (synthetic): 1 test pairs" in text
    assert "| right or wrong | right | 1.000 |" in text and "| 1.5 |" in text


def test_settings_have_files_of_their_own(tmp_path):
    found = layout.PeersFolder(tmp_path)
    places = [(method, setting) for method, about in METHODS.items() for setting in about.settings]
    assert len({found.field_file(*place, "test-000") for place in places}) == len(places) > 20
    assert {about.tool for about in METHODS.values()} == set(tools.TOOLS)
    pinned = registration_peers.REQUIREMENTS.read_text()
    assert all(f"{package}==" in pinned for about in METHODS.values() for package in about.packages)


TRY = """
import sys, numpy as np
from peers import tools
from peers.settings import METHODS
fixed, moving = np.load(sys.argv[1])
found = tools.TOOLS[sys.argv[2]](fixed, moving, (2.0, 2.5, 3.0), eval(sys.argv[3]))
before = np.abs(moving - fixed).mean()
print(tools.difference(found, moving), np.abs(tools.warped_by(moving, found.u) - fixed).mean() / before)
"""
AFFINE = METHODS["greedy affine"].settings["NCC 2x2x2"]["affine"]
QUICK = {
    "ants": {"type_of_transform": "SyN", "reg_iterations": (20, 10, 5)},
    "greedy": {"affine": AFFINE, "metric": "SSD", "iterations": "60x40x20", "smooth": "2vox 1vox"},
    "convex_adam": {"affine": AFFINE, "grid_sp": 4, "selected_niter": 30},
    "elastix": {"metric": "AdvancedNormalizedCorrelation", "grid_voxels": 8, "bending": True, "iterations": 30},
}


def test_points_share_a_label_where_they_are_close_and_of_one_colour():
    point = ("red", 1.0, 0.8)
    assert shown._close(point, ("red", 1.2, 0.81)) and not shown._close(point, ("blue", 1.0, 0.8))
    assert not shown._close(point, ("red", 1.3, 0.8)) and not shown._close(point, ("red", 1.0, 0.82))


@pytest.mark.slow
@pytest.mark.parametrize("tool", QUICK)
def test_fields_of_the_peers_warp_as_the_peers_do(tool, tmp_path):
    python = Path(os.environ.get("DEEPATLAS_PEERS_PYTHON", registration_peers.PEERS / "bin" / "python"))
    if not python.exists():
        pytest.skip("the environment of the peers is not there; benchmarks/registration_peers.py makes it")
    shape = (32, 40, 36)
    texture = gaussian_filter(np.random.default_rng(0).normal(size=shape), 3)
    middle = functools.reduce(np.multiply.outer, [np.hanning(n) for n in shape])
    moving = ((texture - texture.min()) * middle).astype(np.float32)
    np.save(tmp_path / "pair.npy", np.stack([tools.warped_by(moving, smooth_field(shape)), moving]))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "benchmarks")}
    command = [str(python), "-c", TRY, str(tmp_path / "pair.npy"), tool, repr(QUICK[tool])]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    difference, left = map(float, printed.split()[-2:])
    assert difference < run.MOST_DIFFERENCE
    assert left < 0.8, "it does not bring the images together"
