"""The method on the stages of any data set."""

import dataclasses

from deepatlas_tf.recipes import stages_of
from deepatlas_tf.training.experiment import Stage


def recipe(experiment, tiny=False):
    """One stage, as long as the segmentation baseline."""
    steps = stages_of(experiment, "segmentation")[0].steps
    stage = Stage("fit_labels", "fit_labels", steps, labelled_fraction=(1.0, None))
    made = dataclasses.replace(experiment, stages=(stage,))
    return made.tiny() if tiny else made
