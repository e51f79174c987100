"""Pseudo masks against SciPy, their quality by hand, and a whole run of UniSegReg that is interrupted and resumed."""

import csv

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates, rotate, shift

from deepatlas_tf.cli import main
from deepatlas_tf.keras_stack import tf
from deepatlas_tf.models.registration.voxelmorph import registration_net
from deepatlas_tf.models.segmentation.light import light_unet
from deepatlas_tf.runs.instance import InstanceOptimisation, optimise
from deepatlas_tf.streams.pseudo_masks import read_mask
from deepatlas_tf.training import pseudo
from deepatlas_tf.training.experiment import Data, Experiment, Stage
from deepatlas_tf.training.pseudo import (
    PARTS,
    Parts,
    TeacherNets,
    draw_motion,
    draw_sources,
    mask_parts,
    measure_masks,
    quality,
)

CLASSES = ("background", "bone", "cartilage")
SHAPES = {"2D": (14, 12), "3D": (9, 10, 8)}


def smooth(shape, seed):
    image = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    return ((image - image.min()) / np.ptp(image))[..., None].astype(np.float32)


def segment(image):
    """Probabilities of three classes that follow from the place, too: a rotation is felt."""
    along = np.linspace(0, 1, image.shape[0]).reshape(-1, *[1] * (image.ndim - 1))
    logits = np.concatenate([image, 2 * along * image, 1 - image], axis=-1)
    return (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)).astype(np.float32)


def register(moving, fixed):
    u = np.concatenate([moving - fixed] * (moving.ndim - 1), axis=-1) * 3
    return u.astype(np.float32)


def moved(x, motion, back=False):
    """SciPy's rotation or shift of each channel."""
    sign = -1 if back else 1
    channels = []
    for c in range(x.shape[-1]):
        if motion.degrees:
            y = rotate(x[..., c], sign * motion.degrees, motion.axes, reshape=False, order=1, mode="nearest")
        else:
            y = shift(x[..., c], sign * np.array(motion.shift), order=1, mode="nearest")
        channels.append(y)
    return np.stack(channels, axis=-1)


@pytest.mark.parametrize("dimension", SHAPES)
def test_the_mask_is_the_mean_of_ten_maps(dimension):
    shape = SHAPES[dimension]
    image = smooth(shape, 0)
    rng = np.random.default_rng(1)
    sources = [
        {
            "image": smooth(shape, 2 + i),
            "label": rng.integers(0, 3, shape).astype(np.int32),
            "label_weight": np.array(weight, np.float32),
        }
        for i, weight in enumerate([(1, 1, 1), (1, 1, 1), (0, 1, 0)])
    ]
    found = mask_parts(sources, TeacherNets(segment, register), image, np.random.default_rng(7))

    rng = np.random.default_rng(7)  # the same draws
    motions = [draw_motion(shape, rng) for _ in range(4)]
    chosen = draw_sources(3, rng)
    maps = [segment(image)]
    maps += [moved(segment(moved(image, m).astype(np.float32)), m, back=True) for m in motions]
    for source in (sources[i] for i in chosen):
        one_hot = np.eye(3)[source["label"]]
        if source["label_weight"].min() < 1:  # class 1 is certain, the others are predicted
            p = segment(source["image"])
            rest = p * [1, 0, 1] / (p * [1, 0, 1]).sum(-1, keepdims=True)
            one_hot = np.where(source["label"][..., None] == 1, [0, 1, 0], rest)
        u = register(source["image"], image)
        grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")) + np.moveaxis(u, -1, 0)
        maps.append(np.stack([map_coordinates(one_hot[..., c], grid, order=1, mode="nearest") for c in range(3)], -1))
    assert len(maps) == 10
    np.testing.assert_allclose(found.mask(0.5), np.mean(maps, axis=0), atol=2e-4)
    more = 0.25 * np.mean(maps[:5], axis=0) + 0.75 * np.mean(maps[5:], axis=0)
    np.testing.assert_allclose(found.mask(0.75), more, atol=2e-4)
    np.testing.assert_allclose(found.mask(0.25).sum(-1), 1, atol=1e-5)


def chosen_stage(part):
    return Stage(name="s", method="deepatlas", steps=1, pseudo_warped=part)


@pytest.mark.parametrize("wrong", [0.35, 0.6, 0.85])
def test_the_part_that_is_best_in_validation(wrong):
    """Half of the voxels are right where less than ``wrong`` is warped, and half where more than ``wrong - 0.2`` is."""
    label = np.array([1, 2] * 8)
    sure, other = np.eye(3)[label], np.eye(3)[3 - label]
    first = np.arange(16) < 8
    little = wrong - 0.2  # the most probable class changes where (1 - b) p = b q
    predicted = np.where(first[:, None], wrong * sure, little * other)
    warped = np.where(first[:, None], (1 - wrong) * other, (1 - little) * sure)
    samples = {"s": {"image": None, "label": label, "label_weight": np.ones(3)}}
    (expected,) = [part for part in PARTS if little < part < wrong]
    found = measure_masks(chosen_stage(None), samples, CLASSES, lambda image, rng: Parts(predicted, warped), 0)
    assert found.part == expected
    mask = Parts(predicted, warped).mask(expected)
    assert str(found.rows) == str(quality("s", "validation", mask, CLASSES, samples["s"]))


@pytest.mark.parametrize(("wanted", "part"), [(None, 0.5), (0.3, 0.3), (0.0, 0.0)])
def test_without_validation_subjects_a_part_is_not_chosen(wanted, part):
    assert measure_masks(chosen_stage(wanted), {}, CLASSES, None, 0) == (part, [])


@pytest.mark.slow
@pytest.mark.parametrize("steps", [0, 3])
def test_a_registration_for_a_mask_is_refined_under_the_loss_of_its_stage(steps, tmp_path):
    """By so many steps as the stage says; 0 is what the network says."""
    registration = Stage(
        name="first", method="voxelmorph", steps=1, similarity="local_ncc", similarity_settings={"window": 5}
    )
    teachers = {"registration": "first", "segmentation": "first"}
    stage = Stage(name="s", method="deepatlas", steps=1, pseudo_from=teachers, pseudo_instance_steps=steps)
    nets = {
        "registration": registration_net((12, 14), (4, 4), (4, 4, 4)),
        "segmentation": light_unet((12, 14), 3, (4, 8)),
    }
    (tmp_path / "first" / "nets").mkdir(parents=True)
    for name, net in nets.items():
        net.save(tmp_path / "first" / "nets" / f"{name}.keras", save_format="keras")
    experiment = Experiment("e", Data("phantom_knee"), (registration, stage))
    made = pseudo.teacher_nets(stage, experiment, tmp_path)
    moving, fixed = smooth((12, 14), 0), smooth((12, 14), 1)
    field = nets["registration"]([moving[None], fixed[None]]).numpy()
    settings = InstanceOptimisation(steps, similarity="local_ncc", similarity_settings={"window": 5})
    expected = optimise(tf.constant(field), tf.constant(moving[None]), tf.constant(fixed[None]), settings)
    np.testing.assert_allclose(made.register(moving, fixed), expected[0], atol=1e-4)
    assert bool(steps) == (np.abs(expected - field).max() > 0.01)
    np.testing.assert_allclose(made.segment(moving), nets["segmentation"](moving[None])[0], atol=1e-5)


@pytest.mark.parametrize("dimension", SHAPES)
def test_motions_stay_in_their_bounds(dimension):
    shape, rng = SHAPES[dimension], np.random.default_rng(0)
    motions = [draw_motion(shape, rng) for _ in range(200)]
    rotations = [m for m in motions if m.degrees]
    assert 60 < len(rotations) < 140
    assert 15 < max(abs(m.degrees) for m in rotations) <= 20
    shifts = np.abs([m.shift for m in motions if not m.degrees]).max(axis=0)
    assert np.all(shifts <= np.array(shape) * 0.1) and np.all(shifts > np.array(shape) * 0.08)
    assert len({m.axes for m in rotations}) == {2: 1, 3: 3}[len(shape)]


def test_sources_come_again_only_after_all_have_come():
    rng = np.random.default_rng(0)
    assert sorted(draw_sources(5, rng)) == [0, 1, 2, 3, 4]
    assert len(set(draw_sources(9, rng))) == 5
    assert draw_sources(1, rng).tolist() == [0] * 5
    assert sorted(np.bincount(draw_sources(3, rng))) == [1, 2, 2]


def test_quality_by_hand():
    mask = np.array([[0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.1, 0.9, 0.0], [1.0, 0.0, 0.0]])
    sample = {"label": np.array([0, 1, 0, 0]), "label_weight": np.ones(3)}
    one, two = quality("s", "validation", mask, ("background", "one", "two"), sample)
    entropies = [-sum(p * np.log(p) for p in row if p) for row in mask[1:3]]
    assert one["confidence"] == pytest.approx(0.75) and one["entropy"] == pytest.approx(np.mean(entropies))
    assert one["dice"] == pytest.approx(2 / 3)
    assert np.isnan([two["confidence"], two["entropy"]]).all()
    assert np.isnan(quality("s", "train", mask, ("background", "one", "two"))[0]["dice"])


def _files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.long
def test_a_tiny_run_interrupted_in_the_masks_and_resumed(tmp_path, monkeypatch):
    """As a user calls it; the masks that were there are kept, and the others come out as they would have."""
    data = ["--set", "data.shape=(24, 24)", "--set", "data.spacing=(5, 5)", "--data-dir", str(tmp_path / "data")]
    work = tmp_path / "work"
    command = ["train", "--tiny", "--method", "uniseg_reg", "--workdir", str(work), *data]
    folder, finish = work / "uniseg_reg_1" / "pseudo", pseudo.mask_parts

    def stop_after_two(*args):
        if len(list(folder.glob("*.npz"))) == 2:
            raise KeyboardInterrupt
        return finish(*args)

    with monkeypatch.context() as patch:
        patch.setattr(pseudo, "mask_parts", stop_after_two)
        assert main(command) == 130
    half = _files(folder)
    assert len(half) == 2 and not (work / "uniseg_reg_1" / "nets").exists()

    assert main(command) == 0
    whole = _files(folder)
    assert half.items() <= whole.items() and "quality.csv" in whole and not any(n.startswith(".") for n in whole)
    with (folder / "quality.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["subject", "split", "class", "confidence", "entropy", "dice"]
    masked = {row["subject"] for row in rows if row["split"] == "train"}
    assert {f"{subject}.npz" for subject in masked} == set(whole) - {"quality.csv"}
    assert {row["dice"] for row in rows if row["split"] == "train"} == {"nan"}
    assert any(float(row["dice"]) >= 0 for row in rows if row["split"] == "validation")
    assert read_mask(folder, min(masked)).dtype == np.uint8
    assert all((work / "figures" / f"pseudo_{name}.png").stat().st_size > 10_000 for name in ("quality", "masks"))
    assert {p.name for p in (work / "mean_teacher" / "nets").iterdir()} == {"segmentation.keras", "student.keras"}
    with (work / "evaluation" / "segmentation.csv").open() as file:
        measured = list(csv.DictReader(file))
    assert {row["method"] for row in measured} == {
        "segmentation_baseline",
        "mean_teacher",
        "uniseg_reg_1",
        "uniseg_reg",
    }
    assert all(float(r["hausdorff_mm"]) >= float(r["hd95_mm"]) for r in measured if r["hd95_mm"] != "nan")
