"""How much the force of the anatomy counts when a stage begins that has one (``anatomy_from``).

A good segmentation network helps a registration more than a poor one, which can harm it. So some gains are tried, the
images alone among them, and the training begins with the one that registers the validation subjects best.
"""

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.messages import say
from deepatlas_tf.models.anatomy import can_see_anatomy, learns_anatomy, set_anatomy_gain
from deepatlas_tf.training.strategy import value_of_chief
from deepatlas_tf.training.validation import Validation

GAINS = (0.0, 0.3, 0.7)  # times the gain of the force of the images
UNMEASURED = 1  # the one that is taken where no pair of validation subjects has label maps


def begin_with_anatomy(
    net: keras.Model, validation: Validation | None, strategy: tf.distribute.Strategy, stage: str
) -> None:
    """Set the gain of the force of the anatomy of a stage's registration network, where it has none yet.

    Args:
        net: the registration network.
        validation: of the chief, which measures ``net``; None on other workers.
        strategy: that of the training; all workers take the chief's gain.
        stage: name of the stage, for what is said.
    """
    if not can_see_anatomy(net) or learns_anatomy(net):
        return
    best = value_of_chief(strategy, _best(net, validation) if validation is not None else 0)
    set_anatomy_gain(net, GAINS[best])
    if validation is not None:
        say(f"[{stage}] the force of the predicted anatomy begins with {GAINS[best]:g} of that of the images")


def _best(net: keras.Model, validation: Validation) -> int:
    """The index of the gain that is best on the validation subjects; of equal ones the smallest."""
    scores = []
    for gain in GAINS:
        set_anatomy_gain(net, gain)
        measured = validation.registration()
        if not measured:
            return UNMEASURED
        scores.append(measured["val_registration_dice"])
    return scores.index(max(scores))
