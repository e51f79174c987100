"""The commands of ``deepatlas``, one file each."""

from deepatlas_tf.pretrained import pretrained_names

PRETRAINED = ", ".join(pretrained_names())
MODEL_HELP = f"folder of a run, a SavedModel of deepatlas export, or networks that come with the package: {PRETRAINED}"
