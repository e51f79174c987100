"""Random patches of scans, drawn so that small structures are seen as often as large ones.

A patch is placed evenly over the scan, or about a voxel of a class that is drawn evenly among those of its label map
(oversampling of the foreground, as nnU-Net; Isensee et al., Nature Methods 2021). A voxel whose class is not known, as
a prediction that is not sure, has the index ``C``, one more than the last class, and gets no weight.
"""

import dataclasses
from collections.abc import Sequence

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.types import Sample, SettingError, Tensor


@dataclasses.dataclass(frozen=True)
class Patches:
    """Patches of the scans at their own resolution, which a stage is trained on.

    shape: of a patch in voxels; None: that of the grid of the other stages, so that a step takes as much memory.
    spacing: the voxel size in mm; None: the median of the training scans along each axis.
    balanced: the share of the patches that are placed about a voxel of a class drawn evenly among those of the scan.
    """

    shape: tuple[int, ...] | None = None
    spacing: tuple[float, ...] | None = None
    balanced: float = 0.5

    def __post_init__(self) -> None:
        for name in ("shape", "spacing"):
            if not isinstance(getattr(self, name), tuple | None):
                raise SettingError(f"patches.{name} takes one value for each axis, such as (64, 64, 48), or None")
        if not 0 <= self.balanced <= 1:
            raise SettingError(f"patches.balanced is a share of the patches, between 0 and 1, not {self.balanced}")

    def fitted(self, whole: Sequence[int], scans: Sequence[int]) -> tuple[int, ...]:
        """The shape of a patch ``(D,)``, by that of the other stages' grid and that of the scans, in voxels.

        Raises:
            SettingError: the shape that is set has other axes, or is larger than the scans.
        """
        if self.shape is None:
            return tuple(min(sizes) for sizes in zip(whole, scans, strict=True))
        if len(self.shape) != len(scans) or any(n < 1 or n > m for n, m in zip(self.shape, scans, strict=False)):
            most = " x ".join(map(str, scans))
            raise SettingError(f"patches.shape={self.shape}: a patch has at most the {most} voxels of the scans")
        return self.shape


def random_patch(sample: Sample, patches: Patches, seed: Tensor) -> Sample:
    """Cut a patch of image and label map from a sample without a batch axis.

    Args:
        sample: a scan at its own resolution, at least as large as the patch; a voxel whose class is not known has the
            label ``C``. The labels may be of any integer type, which they keep.
        patches: its ``shape``, None for the whole scan, and its ``balanced``, the probability of a patch about a voxel
            of a foreground class. Near the border of the scan, the patch ends there. A scan without such a class is cut
            anywhere.
        seed: ``(2,)`` int32, which decides where the patch is.
    """
    label = sample["label"]
    shape = patches.shape or tuple(label.shape)
    kind_seed, anywhere_seed, about_seed = tf.unstack(tf.random.split(seed, 3))
    spare = tf.constant(label.shape.as_list()) - tf.constant(list(shape))
    draws = tf.random.stateless_uniform((len(shape),), anywhere_seed)
    anywhere = tf.minimum(tf.cast(draws * tf.cast(spare + 1, tf.float32), tf.int32), spare)
    voxels = _voxels_of_classes(label, sample["label_weight"])

    def about() -> Tensor:
        middle = _random_voxel(label, voxels, about_seed)
        return tf.clip_by_value(middle - tf.constant(list(shape)) // 2, 0, spare)

    is_about = (tf.random.stateless_uniform((), kind_seed) < patches.balanced) & tf.reduce_any(voxels > 0)
    start = tf.cond(is_about, about, lambda: anywhere)
    image = tf.slice(sample["image"], [*tf.unstack(start), 0], (*shape, sample["image"].shape[-1]))
    return {**sample, "image": image, "label": tf.slice(label, start, shape)}


def with_voxel_weight(sample: Sample) -> Sample:
    """The sample with ``voxel_weight (*S, 1)`` float32: 0 where the label is ``C``, which becomes 0; else 1."""
    known = sample["label"] < sample["label_weight"].shape[-1]
    label = tf.where(known, sample["label"], 0)
    return {**sample, "label": label, "voxel_weight": tf.cast(known, tf.float32)[..., tf.newaxis]}


def _voxels_of_classes(label: Tensor, weight: Tensor) -> Tensor:
    """How many voxels ``(C,)`` int32 each class has; 0 of the background, and of classes that are not labelled."""
    n = weight.shape[-1]
    counts = tf.math.bincount(tf.cast(tf.reshape(label, [-1]), tf.int32), minlength=n, maxlength=n)
    return tf.where((tf.range(n) > 0) & (weight > 0), counts, 0)


def _random_voxel(label: Tensor, voxels: Tensor, seed: Tensor) -> Tensor:
    """A voxel ``(D,)`` int32 of a class: the class is drawn evenly among those with voxels, then one of these."""
    class_seed, voxel_seed = tf.unstack(tf.random.split(seed, 2))
    classes = tf.where(voxels > 0)[:, 0]
    drawn = classes[_below(tf.size(classes), class_seed)]
    inside = tf.where(tf.reshape(label, [-1]) == tf.cast(drawn, label.dtype))[:, 0]
    voxel = inside[_below(tf.gather(voxels, drawn), voxel_seed)]
    return tf.cast(tf.unravel_index(voxel, label.shape.as_list()), tf.int32)


def _below(n: Tensor, seed: Tensor) -> Tensor:
    return tf.random.stateless_uniform((), seed, 0, n, tf.int32)
