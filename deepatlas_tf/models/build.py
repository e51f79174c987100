"""Networks from files: the layers that a saved network may be made of, and reading it."""

from pathlib import Path

from deepatlas_tf.keras_stack import keras
from deepatlas_tf.messages import detail
from deepatlas_tf.models.layers import (
    CropLike,
    Dropout,
    InstanceNormalization,
    PadToMultiple,
    SpatialTransformer,
    VecInt,
)
from deepatlas_tf.models.recompute import Recomputed
from deepatlas_tf.types import DataError

CUSTOM_OBJECTS = {
    layer.__name__: layer
    for layer in (CropLike, Dropout, InstanceNormalization, PadToMultiple, Recomputed, SpatialTransformer, VecInt)
}


def load_net(path: Path, remedy: str | None = None) -> keras.Model:
    """A network saved by a run, a Keras model without optimizer.

    Raises DataError where the file is damaged, with the remedy, by default that of a stage's own file.
    """
    detail(f"reading {path}")
    try:
        return keras.models.load_model(path, custom_objects=CUSTOM_OBJECTS, compile=False)
    except Exception as error:  # Keras, zipfile, h5py and json raise a dozen kinds for a damaged file
        reason = (" ".join(str(error).split()) or type(error).__name__)[:120]
        remedy = remedy or (
            f"delete {path.parent} and run the training command again, which writes it from the stage's checkpoints"
        )
        raise DataError(f"cannot load the network {path} ({reason}); {remedy}") from error
