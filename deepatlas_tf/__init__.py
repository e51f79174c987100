"""deepatlas_tf: registration and segmentation of medical images, learned together from few labels.

The names below are the public interface; they are loaded when first used, so that the command line starts at once.
"""

import importlib
import importlib.metadata
import os
import sys

# Whoever imports TensorFlow next gets Keras 2, which keras_stack needs: it is loaded too late to see to that
_TF_VERSION = tuple(int(part) for part in importlib.metadata.version("tensorflow").split(".")[:2])
if _TF_VERSION >= (2, 16) and "tensorflow" not in sys.modules:
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

__version__ = importlib.metadata.version("deepatlas_tf")

_MODULES = {
    "Data": "training.experiment",
    "DataError": "types",
    "DataSet": "data.sources",
    "DeepAtlas": "methods.deepatlas",
    "DomainAdaptation": "methods.domain_adaptation",
    "Experiment": "training.experiment",
    "MeanTeacher": "methods.mean_teacher",
    "Method": "methods.base",
    "Pair": "types",
    "Sample": "types",
    "SegGuided": "methods.seg_guided",
    "Segmentation": "methods.segmentation",
    "SpatialTransformer": "models.layers",
    "Stage": "training.experiment",
    "StreamSettings": "data.pairs",
    "UniSegReg": "methods.uniseg_reg",
    "VoxelMorph": "methods.voxelmorph",
    "Augmentation": "data.augment",
    "evaluate": "evaluation.evaluate",
    "export_run": "export.save",
    "get_experiment": "experiments",
    "light_unet": "models.unet",
    "load_dataset": "data.sources",
    "load_net": "models.build",
    "open_model": "runs.model",
    "pair_stream": "data.pairs",
    "register_scans": "apply.register",
    "registration_net": "models.voxelmorph",
    "sample_stream": "data.pairs",
    "segment_scan": "apply.segment",
    "train_experiment": "training.loop",
    "voxelmorph_unet": "models.unet",
    "warp": "ops.warp",
}

__all__ = sorted(_MODULES)


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__():
    return [*globals(), *__all__]
