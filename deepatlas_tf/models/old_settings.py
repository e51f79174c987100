"""Reading the settings of networks that earlier versions wrote, with names such as ``segmentation_widths``."""

from collections.abc import Mapping
from typing import Any

from deepatlas_tf.models.network import KINDS

RENAMED = {
    "registration_encoder": ("registration.encoder",),
    "registration_decoder": ("registration.decoder",),
    "diffeomorphic": ("registration.diffeomorphic",),
    "cascade_factors": ("registration.factors",),
    "pyramid_widths": ("registration.widths",),
    "segmentation_widths": ("segmentation.widths",),
    "segmentation_dropout": ("segmentation.dropout",),
    "generator_widths": ("generator.widths",),
    "generator_blocks": ("generator.blocks",),
    "discriminator_widths": ("discriminator.widths",),
    "recompute": ("registration.recompute", "segmentation.recompute"),
}
"""Old name -> new names, of those networks that have the setting."""

_CHOSEN = {"registration": "voxelmorph", "segmentation": "light", "generator": "resnet", "discriminator": "patchgan"}
_SETTINGS = {  # of each network, as it was
    "voxelmorph": ("registration_encoder", "registration_decoder", "diffeomorphic", "recompute"),
    "cascade": ("registration_encoder", "registration_decoder", "cascade_factors"),
    "pyramid": ("pyramid_widths",),
    "light": ("segmentation_widths", "segmentation_dropout", "recompute"),
    "resnet": ("generator_widths", "generator_blocks"),
    "patchgan": ("discriminator_widths",),
}


def translated_networks(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The ``networks`` of an ``experiment.json`` of any version in the form of this one.

    That is the form of :func:`deepatlas_tf.models.networks.networks_dict`.
    """
    if any(isinstance(settings.get(kind), Mapping) for kind in KINDS):
        return dict(settings)
    found: dict[str, Any] = {}
    for kind, default in _CHOSEN.items():
        name = settings.get(kind, default)
        if name.endswith(".keras"):
            found[kind] = {"name": "file", "path": name}
            continue
        names = () if kind == "segmentation" and name == "voxelmorph" else _SETTINGS.get(name, ())
        own = {old: RENAMED[old][0].partition(".")[2] for old in names if old in settings}
        found[kind] = {"name": name, **{new: settings[old] for old, new in own.items()}}
    return {**found, "precision": settings.get("precision", "float32")}
