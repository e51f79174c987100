"""deepatlas_tf: registration and segmentation of medical images, learned together from few labels.

The names below are the public interface; they are loaded when first used, so that the command line starts at once.
"""

import importlib
import importlib.metadata
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what editors and type checkers read; _MODULES says the same for the program, and a test compares
    from deepatlas_tf.apply.register import register_files as register_files
    from deepatlas_tf.apply.register import register_scans as register_scans
    from deepatlas_tf.apply.segment import segment_files as segment_files
    from deepatlas_tf.apply.segment import segment_scan as segment_scan
    from deepatlas_tf.datasets.load import DataSet as DataSet
    from deepatlas_tf.datasets.load import load_dataset as load_dataset
    from deepatlas_tf.evaluation.evaluate import evaluate as evaluate
    from deepatlas_tf.experiments import get_experiment as get_experiment
    from deepatlas_tf.export.save import export_run as export_run
    from deepatlas_tf.losses.consistency import gradient_inverse_consistency as gradient_inverse_consistency
    from deepatlas_tf.losses.consistency import inverse_consistency as inverse_consistency
    from deepatlas_tf.losses.multimodal import mind_ssc as mind_ssc
    from deepatlas_tf.losses.multimodal import mutual_information as mutual_information
    from deepatlas_tf.losses.multimodal import ngf as ngf
    from deepatlas_tf.losses.overlap import cross_entropy as cross_entropy
    from deepatlas_tf.losses.overlap import soft_dice as soft_dice
    from deepatlas_tf.losses.similarity import local_ncc as local_ncc
    from deepatlas_tf.losses.similarity import mse as mse
    from deepatlas_tf.losses.similarity import ncc as ncc
    from deepatlas_tf.losses.smoothness import bending_energy as bending_energy
    from deepatlas_tf.losses.smoothness import gradient_penalty as gradient_penalty
    from deepatlas_tf.losses.warped_overlap import warped_soft_dice as warped_soft_dice
    from deepatlas_tf.methods.base import Method as Method
    from deepatlas_tf.methods.deepatlas import DeepAtlas as DeepAtlas
    from deepatlas_tf.methods.domain_adaptation import DomainAdaptation as DomainAdaptation
    from deepatlas_tf.methods.mean_teacher import MeanTeacher as MeanTeacher
    from deepatlas_tf.methods.seg_guided import SegGuided as SegGuided
    from deepatlas_tf.methods.segmentation import Segmentation as Segmentation
    from deepatlas_tf.methods.uniseg_reg import UniSegReg as UniSegReg
    from deepatlas_tf.methods.voxelmorph import VoxelMorph as VoxelMorph
    from deepatlas_tf.metrics.deformation import folds_percent as folds_percent
    from deepatlas_tf.metrics.deformation import jacobian_determinant as jacobian_determinant
    from deepatlas_tf.metrics.deformation import sdlogj as sdlogj
    from deepatlas_tf.metrics.overlap import dice as dice
    from deepatlas_tf.metrics.surface import hd95 as hd95
    from deepatlas_tf.metrics.surface import surface_metrics as surface_metrics
    from deepatlas_tf.models.build import load_net as load_net
    from deepatlas_tf.models.layers import SpatialTransformer as SpatialTransformer
    from deepatlas_tf.models.registration.voxelmorph import registration_net as registration_net
    from deepatlas_tf.models.segmentation.light import light_unet as light_unet
    from deepatlas_tf.models.segmentation.voxelmorph import voxelmorph_unet as voxelmorph_unet
    from deepatlas_tf.ops.velocity import integrate as integrate
    from deepatlas_tf.ops.warp import warp as warp
    from deepatlas_tf.runs.model import open_model as open_model
    from deepatlas_tf.streams.augment import Augmentation as Augmentation
    from deepatlas_tf.streams.pairs import StreamSettings as StreamSettings
    from deepatlas_tf.streams.pairs import pair_stream as pair_stream
    from deepatlas_tf.streams.pairs import sample_stream as sample_stream
    from deepatlas_tf.trained import Run as Run
    from deepatlas_tf.trained import train as train
    from deepatlas_tf.training.experiment import Data as Data
    from deepatlas_tf.training.experiment import Experiment as Experiment
    from deepatlas_tf.training.experiment import Stage as Stage
    from deepatlas_tf.training.loop import train_experiment as train_experiment
    from deepatlas_tf.types import DataError as DataError
    from deepatlas_tf.types import Pair as Pair
    from deepatlas_tf.types import Sample as Sample

# Whoever imports TensorFlow next gets Keras 2, which keras_stack needs: it is loaded too late to see to that
_TF_VERSION = tuple(int(part) for part in importlib.metadata.version("tensorflow").split(".")[:2])
if _TF_VERSION >= (2, 16) and "tensorflow" not in sys.modules:
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

__version__ = importlib.metadata.version("deepatlas_tf")

_MODULES = {
    "Augmentation": "streams.augment",
    "Data": "training.experiment",
    "DataError": "types",
    "DataSet": "datasets.load",
    "DeepAtlas": "methods.deepatlas",
    "DomainAdaptation": "methods.domain_adaptation",
    "Experiment": "training.experiment",
    "MeanTeacher": "methods.mean_teacher",
    "Method": "methods.base",
    "Pair": "types",
    "Run": "trained",
    "Sample": "types",
    "SegGuided": "methods.seg_guided",
    "Segmentation": "methods.segmentation",
    "SpatialTransformer": "models.layers",
    "Stage": "training.experiment",
    "StreamSettings": "streams.pairs",
    "UniSegReg": "methods.uniseg_reg",
    "VoxelMorph": "methods.voxelmorph",
    "bending_energy": "losses.smoothness",
    "cross_entropy": "losses.overlap",
    "dice": "metrics.overlap",
    "evaluate": "evaluation.evaluate",
    "export_run": "export.save",
    "folds_percent": "metrics.deformation",
    "get_experiment": "experiments",
    "gradient_inverse_consistency": "losses.consistency",
    "gradient_penalty": "losses.smoothness",
    "hd95": "metrics.surface",
    "integrate": "ops.velocity",
    "inverse_consistency": "losses.consistency",
    "jacobian_determinant": "metrics.deformation",
    "light_unet": "models.segmentation.light",
    "load_dataset": "datasets.load",
    "load_net": "models.build",
    "local_ncc": "losses.similarity",
    "mind_ssc": "losses.multimodal",
    "mse": "losses.similarity",
    "mutual_information": "losses.multimodal",
    "ncc": "losses.similarity",
    "ngf": "losses.multimodal",
    "open_model": "runs.model",
    "pair_stream": "streams.pairs",
    "register_files": "apply.register",
    "register_scans": "apply.register",
    "registration_net": "models.registration.voxelmorph",
    "sample_stream": "streams.pairs",
    "sdlogj": "metrics.deformation",
    "segment_files": "apply.segment",
    "segment_scan": "apply.segment",
    "soft_dice": "losses.overlap",
    "surface_metrics": "metrics.surface",
    "train": "trained",
    "train_experiment": "training.loop",
    "voxelmorph_unet": "models.segmentation.voxelmorph",
    "warp": "ops.warp",
    "warped_soft_dice": "losses.warped_overlap",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
