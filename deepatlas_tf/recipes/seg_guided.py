"""The four stages of SegGuidedMMReg (Demir & Niethammer, MIDL 2024) and its baselines, for any data with two domains.

A few subjects of the first domain A have labels, those of B none. Registration by mutual information, MIND and NGF are
baselines of the last stage; of the third it is ``segmentation_a`` on B, which the evaluation measures too. No epoch is
chosen by labels of B: those stages keep their last one.
"""

import dataclasses

from deepatlas_tf.models.discriminator.patchgan import PatchGAN
from deepatlas_tf.models.generator.resnet import ResNet
from deepatlas_tf.models.registration.cascade import Cascade
from deepatlas_tf.recipes import n_axes
from deepatlas_tf.training.experiment import Data, Experiment, Stage
from deepatlas_tf.types import SettingError

GRADICON = 1.5  # as published, for a mean over the components of the field: here it is divided by their number
_BASELINES = {"registration_mi": "mutual_information", "registration_mind": "mind_ssc", "registration_ngf": "ngf"}


def recipe(experiment: Experiment, tiny: bool = False) -> Experiment:
    """The experiment with these stages, a cascade as every registration network, and networks for the translation.

    The weight of GradICON's penalty is the published one for as many axes as the data have, see ``recipes.n_axes``.

    tiny: very short, without the baselines of the last stage, with a cascade of two steps.

    Raises:
        SettingError: if ``data.domains`` does not name two domains.
    """
    if len(experiment.data.domains) != 2:
        raise SettingError(
            "seg_guided is for two domains, of which the first has labels: name them, such as "
            "--set \"data.domains=('mr','ct')\""
        )
    networks = dataclasses.replace(
        experiment.networks,
        registration=_cascade(experiment, (4, 2, 1)),
        generator=ResNet((16, 32, 64), blocks=4),
        discriminator=PatchGAN((16, 32, 64)),
    )
    made = dataclasses.replace(experiment, networks=networks, stages=_stages(experiment.data))
    if not tiny:
        return made
    kept = tuple(stage for stage in made.stages if stage.name not in _BASELINES)
    networks = dataclasses.replace(networks, registration=_cascade(experiment, (2, 1)))
    return dataclasses.replace(made, networks=networks, stages=kept).tiny()


def _cascade(experiment: Experiment, factors: tuple[int, ...]) -> Cascade:
    """A cascade of the networks that the experiment registers with."""
    cascade = experiment.networks.with_network("registration", "cascade").registration
    assert isinstance(cascade, Cascade)
    return dataclasses.replace(cascade, factors=factors)


def _stages(data: Data) -> tuple[Stage, ...]:
    (a, b), penalty = data.domains, GRADICON / n_axes(data)
    baselines = (_registration(name, (a, b), 400, similarity, penalty) for name, similarity in _BASELINES.items())
    segmentation_a = Stage(
        name="segmentation_a",
        method="registration_augmentation",
        steps=600,
        epochs=6,
        domains=(a, a),
        labelled_fraction=(1.0, None),
        learning_rates={"segmentation": 2e-3},
        start_from={"registration": "registration_a"},
    )
    domain_adaptation = Stage(
        name="domain_adaptation",
        method="domain_adaptation",
        steps=1600,
        epochs=8,
        domains=(a, b),
        learning_rates={"generators": 5e-4, "discriminators": 5e-4},
        start_from={"segmentation": "segmentation_a", "segmentation_a": "segmentation_a"},
    )
    seg_guided = Stage(
        name="seg_guided",
        method="seg_guided",
        steps=600,
        epochs=6,
        domains=(a, b),
        weights={"registration": {"anatomy": 1.0, "anatomy_inverse": 1.0, "gradient_inverse_consistency": penalty}},
        start_from={"segmentation_a": "segmentation_a", "segmentation": "domain_adaptation"},
    )
    first = _registration("registration_a", (a, a), 600, "local_ncc", penalty)
    return (first, segmentation_a, *baselines, domain_adaptation, seg_guided)


def _registration(name: str, domains: tuple[str, str], steps: int, similarity: str, penalty: float) -> Stage:
    """An unsupervised registration of both directions under GradICON's penalty."""
    weights = {"similarity": 1.0, "similarity_inverse": 1.0, "gradient_inverse_consistency": penalty}
    return Stage(
        name=name,
        method="voxelmorph",
        steps=steps,
        domains=domains,
        similarity=similarity,
        weights={"registration": weights},
    )
