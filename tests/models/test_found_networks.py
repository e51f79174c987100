"""Networks found by the names of their files, their settings, and those of earlier versions."""

import dataclasses
import inspect
import json

import numpy as np
import pytest

from deepatlas_tf.experiments import get_experiment
from deepatlas_tf.keras_stack import tf
from deepatlas_tf.models.build import build_net, network_class, network_name, network_names
from deepatlas_tf.models.network import KINDS, Interface, Network, interface
from deepatlas_tf.models.networks import Networks, networks_dict, networks_from
from deepatlas_tf.models.old_settings import translated_networks
from deepatlas_tf.models.registration.cascade import Cascade
from deepatlas_tf.models.registration.pyramid import Pyramid
from deepatlas_tf.models.registration.voxelmorph import VoxelMorphRegistration, registration_net
from deepatlas_tf.models.segmentation.light import Light, light_unet
from deepatlas_tf.models.segmentation.voxelmorph import VoxelMorphSegmentation, voxelmorph_unet
from deepatlas_tf.training.settings import set_value, settings_dict
from deepatlas_tf.types import SettingError

ALL = [(kind, name) for kind in KINDS for name in network_names(kind)]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), ALL)
@pytest.mark.parametrize("shape", [(12, 10), (8, 6, 7)])
def test_every_network_is_what_its_kind_promises(kind, name, shape):
    network = network_class(kind, name)()
    assert isinstance(network, Network) and network_name(kind, network) == name
    networks = dataclasses.replace(Networks(), **{kind: network}).tiny()
    net = build_net(kind, networks, shape, 3)
    needed = interface(kind, len(shape), 3)
    assert [tensor.shape[1:] for tensor in net.inputs] == [(*shape, needed.channels)] * needed.images
    assert net.output.shape[-1] == needed.outputs and net.output.dtype == tf.float32
    if kind != "discriminator":
        assert net.output.shape[1:-1] == shape


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), [one for one in ALL if one[0] in ("registration", "segmentation")])
@pytest.mark.parametrize("shape", [(12, 10), (8, 6, 7)])
def test_images_may_have_several_channels(kind, name, shape):
    networks = dataclasses.replace(Networks(), **{kind: network_class(kind, name)()}).tiny()
    net = build_net(kind, networks, shape, 3, n_channels=2)
    assert {tensor.shape[1:] for tensor in net.inputs} == {(*shape, 2)}
    rng = np.random.default_rng(0)
    net.set_weights([rng.normal(size=weight.shape, scale=0.2) for weight in net.get_weights()])
    images = [rng.random((1, *shape, 2)).astype(np.float32) for _ in net.inputs]
    for channel in range(2):  # each is looked at
        changed = [image.copy() for image in images]
        changed[-1][..., channel] = changed[-1][..., channel][:, ::-1]
        before, after = (net(x if len(x) > 1 else x[0]) for x in (images, changed))
        assert np.abs(before - after).max() > 1e-4


def test_the_names_are_the_files():
    assert ALL == [
        ("registration", "cascade"),
        ("registration", "learned_demons"),
        ("registration", "pyramid"),
        ("registration", "voxelmorph"),
        ("segmentation", "light"),
        ("segmentation", "voxelmorph"),
        ("generator", "resnet"),
        ("discriminator", "patchgan"),
    ]


def test_label_maps_are_registered_by_a_registration_network_of_their_channels():
    assert interface("label_registration", 2, 5) == Interface("label_registration", images=2, channels=5, outputs=2)
    net = build_net("label_registration", Networks(Cascade((4,), (4, 4), (2, 1))), (8, 8), 5)
    assert [tensor.shape[1:] for tensor in net.inputs] == [(8, 8, 5)] * 2 and net.output.shape[-1] == 2


@pytest.mark.parametrize(
    ("network", "function"),
    [
        (VoxelMorphRegistration(), registration_net),
        (Light(), light_unet),
        (VoxelMorphSegmentation(), voxelmorph_unet),
    ],
)
def test_defaults_are_those_of_the_function(network, function):
    defaults = {name: p.default for name, p in inspect.signature(function).parameters.items() if name != "channels"}
    assert {**defaults, **dataclasses.asdict(network)} == defaults


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_settings_survive_json(kind, name):
    networks = dataclasses.replace(Networks(precision="mixed_bfloat16"), **{kind: network_class(kind, name)().tiny()})
    assert networks_from(json.loads(json.dumps(networks_dict(networks)))) == networks
    file = dataclasses.replace(networks, **{kind: "net.keras"})
    assert networks_from(json.loads(json.dumps(networks_dict(file)))) == file


def test_a_network_is_chosen_by_its_name_and_keeps_what_both_have():
    experiment = set_value(get_experiment("hippocampus"), "networks.registration=voxelmorph")
    experiment = set_value(experiment, "networks.registration.encoder=(8, 16)")
    experiment = set_value(experiment, "networks.registration=cascade")
    experiment = set_value(experiment, "networks.registration.factors=(2, 1)")
    assert experiment.networks.registration == Cascade(encoder=(8, 16), factors=(2, 1))
    assert experiment.networks.segmentation == Light((16, 32, 64, 128, 256), dropout=0.1)
    assert settings_dict(experiment)["networks"]["registration"]["name"] == "cascade"
    assert set_value(experiment, "networks.registration=cascade") == experiment
    tiny = set_value(get_experiment("hippocampus", tiny=True), "networks.registration=pyramid")
    assert tiny.networks.registration == Pyramid().tiny()


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (
            "networks.registration=voxelmorf",
            "'cascade', 'learned_demons', 'pyramid', 'voxelmorph' or a .keras file, not 'voxelmorf'",
        ),
        ("networks.registration.widths=3", "there is no 'widths' here"),
        ("networks.segmentation.dropout=much", "a float is needed"),
        (
            "networks.pyramid_widths=(4, 4)",
            "it is networks.registration.widths now, which .* of registration learned_demons does not have",
        ),
    ],
)
def test_what_no_network_has_is_refused(assignment, message):
    with pytest.raises(SettingError, match=message):
        set_value(get_experiment("phantom_knee"), assignment)


@pytest.mark.parametrize("setting", ["widths=(0,8)", "widths=()", "dropout=1", "dropout=-0.1"])
def test_a_segmentation_network_that_cannot_learn_is_refused(setting):
    networks = set_value(get_experiment("phantom_knee"), f"networks.segmentation.{setting}").networks
    with pytest.raises(SettingError, match=f"networks.segmentation.{setting.partition('=')[0]}=.*: a (level|rate)"):
        networks.check()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("registration_encoder=(8, 8)", ["registration.encoder=(8, 8)"]),
        ("registration_decoder=(8, 8, 8)", ["registration.decoder=(8, 8, 8)"]),
        ("diffeomorphic=True", ["registration.diffeomorphic=True"]),
        ("segmentation_widths=(8, 8)", ["segmentation.widths=(8, 8)"]),
        ("segmentation_dropout=0.5", ["segmentation.dropout=0.5"]),
        ("generator_widths=(8, 8)", ["generator.widths=(8, 8)"]),
        ("generator_blocks=2", ["generator.blocks=2"]),
        ("discriminator_widths=(8, 8)", ["discriminator.widths=(8, 8)"]),
        ("recompute=True", ["registration.recompute=True", "segmentation.recompute=True"]),
    ],
)
def test_names_of_earlier_versions_still_work(old, new):
    start = set_value(get_experiment("phantom_knee"), "networks.registration=voxelmorph")
    expected = start
    for assignment in new:
        expected = set_value(expected, f"networks.{assignment}")
    assert set_value(start, f"networks.{old}") == expected != start


OLD = {
    "registration_encoder": [8, 16],
    "registration_decoder": [16, 16, 8],
    "diffeomorphic": False,
    "segmentation": "light",
    "segmentation_widths": [4, 8],
    "segmentation_dropout": 0.1,
    "registration": "cascade",
    "cascade_factors": [2, 1],
    "pyramid_widths": None,
    "generator_widths": [4, 8],
    "generator_blocks": 2,
    "discriminator_widths": [4, 4],
    "precision": "mixed_bfloat16",
    "recompute": True,
}


def test_the_settings_of_an_earlier_run_are_understood():
    found = networks_from(translated_networks(OLD))
    assert found.registration == Cascade((8, 16), (16, 16, 8), (2, 1))
    assert found.segmentation == Light((4, 8), 0.1, True) and found.precision == "mixed_bfloat16"
    assert (found.generator.widths, found.generator.blocks, found.discriminator.widths) == ((4, 8), 2, (4, 4))
    plain = networks_from(translated_networks({**OLD, "registration": "voxelmorph", "diffeomorphic": True}))
    assert plain.registration == VoxelMorphRegistration((8, 16), (16, 16, 8), True, recompute=True)
    assert networks_from(translated_networks({**OLD, "registration": "pyramid"})).registration == Pyramid()
    files = networks_from(translated_networks({**OLD, "segmentation": "a/net.keras"}))
    assert files.segmentation == Networks(segmentation="a/net.keras").segmentation
    assert (
        networks_from(translated_networks({**OLD, "segmentation": "voxelmorph"})).segmentation
        == VoxelMorphSegmentation()
    )
    assert translated_networks(networks_dict(found)) == networks_dict(found)
