"""The recipe of MONAI's tutorial on DeepAtlas: networks, losses and steps, made of MONAI's classes.

Source of networks, weights, learning rates, batches and their order: ``deep_atlas/deep_atlas_tutorial.ipynb`` of
https://github.com/Project-MONAI/tutorials. Channels of images are first: ``(B, 1, *S)``. Fields ``(B, 3, *S)`` are in
voxels, ``warped(x) = moving(x + u(x))``. As there, no scan is augmented.
"""

import warnings
from typing import NamedTuple

import numpy as np
import torch

warnings.filterwarnings("ignore", module="monai")
from monai.losses import BendingEnergyLoss, DiceLoss, LocalNormalizedCrossCorrelationLoss  # noqa: E402
from monai.networks.blocks import Warp  # noqa: E402
from monai.networks.nets import UNet  # noqa: E402
from monai.networks.utils import one_hot  # noqa: E402

SEGMENTATION_NET = {"channels": (8, 16, 16, 32, 32, 64, 64), "strides": (1, 2, 1, 2, 1, 2)}
REGISTRATION_NET = {"channels": (16, 32, 32, 32, 32), "strides": (1, 2, 2, 2)}
BOTH_NETS = {"dropout": 0.2, "norm": "batch"}
LEARNING_RATES = {"segmentation": 1e-3, "registration": 5e-4}  # of Adam; the first also of the pre-training
ANATOMY, SUPERVISED = 2.0, 3.0  # weights of the terms
BENDING = 7.5  # at 128 voxels; it grows with the square of the size
PRETRAINING = {"steps": 60, "batch": 8}
EPOCH, BATCH = {"registration": 40, "segmentation": 5}, 2
SETTINGS = {
    "segmentation_net": {**SEGMENTATION_NET, **BOTH_NETS},
    "registration_net": {**REGISTRATION_NET, **BOTH_NETS},
    "learning_rates": LEARNING_RATES,
    "weights": {"anatomy": ANATOMY, "supervised": SUPERVISED, "bending_at_128_voxels": BENDING},
    "pretraining": PRETRAINING,
    "epoch": EPOCH,
    "batch": BATCH,
}


def turn_of(step: int) -> str:
    """What the step ``step`` trains: the segmentation alone first, then both networks in alternation."""
    if step < PRETRAINING["steps"]:
        return "pretraining"
    place = (step - PRETRAINING["steps"]) % sum(EPOCH.values())
    return "registration" if place < EPOCH["registration"] else "segmentation"


class DeepAtlas:
    """Both networks with their optimizers, on the scans of training.

    Args:
        images: ``(N, 1, *S)`` float32 in [0, 1].
        labels: index of a scan -> its label map ``(1, *S)`` of class numbers.
        n_classes: with the background.
        seed: of what is drawn in a step, together with its number.
    """

    def __init__(self, images: torch.Tensor, labels: dict[int, torch.Tensor], n_classes: int, seed: int):
        self.images, self.n_classes, self.seed = images, n_classes, seed
        self.anatomies = {index: one_hot(label[None], n_classes)[0] for index, label in labels.items()}
        self.nets = {
            "segmentation": UNet(3, 1, n_classes, **SEGMENTATION_NET, **BOTH_NETS),
            "registration": UNet(3, 2, 3, **REGISTRATION_NET, **BOTH_NETS),
        }
        self.optimizers = {
            name: torch.optim.Adam(net.parameters(), LEARNING_RATES[name]) for name, net in self.nets.items()
        }
        self.similarity = LocalNormalizedCrossCorrelationLoss(spatial_dims=3, kernel_size=3)
        self.bending, self.dice = BendingEnergyLoss(), DiceLoss(include_background=True)
        self.bending_weight = BENDING * (float(np.mean(images.shape[2:])) / 128) ** 2
        self.warp, self.warp_nearest = Warp("bilinear", "border"), Warp("nearest", "border")
        self.kinds = self._kinds()

    def _kinds(self) -> dict[tuple[bool, bool], list[tuple[int, int]]]:
        """The ordered pairs (fixed, moving) by which sides are labelled, since a batch has pairs of one kind."""
        kinds = {}
        for fixed in range(len(self.images)):
            for moving in range(len(self.images)):
                if fixed != moving:
                    kind = fixed in self.anatomies, moving in self.anatomies
                    kinds.setdefault(kind, []).append((fixed, moving))
        return kinds

    def update(self, step: int) -> None:
        """One step of what is its turn."""
        turn, rng = turn_of(step), np.random.default_rng([self.seed, step])
        trained = "registration" if turn == "registration" else "segmentation"
        for name, net in self.nets.items():
            net.train(name == trained)
        loss = {
            "pretraining": self.pretraining_loss,
            "registration": self.registration_loss,
            "segmentation": self.segmentation_loss,
        }[turn](rng)
        self.optimizers[trained].zero_grad()
        loss.backward()
        self.optimizers[trained].step()

    def pretraining_loss(self, rng: np.random.Generator) -> torch.Tensor:
        """Dice loss of labelled scans."""
        found = rng.permutation(list(self.anatomies))[: PRETRAINING["batch"]]
        truth = torch.stack([self.anatomies[index] for index in found])
        return self.dice(self.segment(self.images[found]), truth)

    def registration_loss(self, rng: np.random.Generator) -> torch.Tensor:
        """Similarity, bending energy and anatomy; what has no label map is predicted."""
        fixed, moving = sides = self._pairs(rng, list(self.kinds))
        u = self.register(fixed.images, moving.images)
        with torch.no_grad():
            of_fixed, of_moving = (self.segment(s.images) if s.anatomy is None else s.anatomy for s in sides)
        similarity = self.similarity(self.warp(moving.images, u), fixed.images)
        anatomy = self.dice(self.warp(of_moving, u), of_fixed)
        return similarity + self.bending_weight * self.bending(u) + ANATOMY * anatomy

    def segmentation_loss(self, rng: np.random.Generator) -> torch.Tensor:
        """Anatomy, and Dice loss of the sides with a label map; one at least has one."""
        fixed, moving = sides = self._pairs(rng, [kind for kind in self.kinds if any(kind)])
        with torch.no_grad():
            u = self.register(fixed.images, moving.images)
        predicted = [self.segment(side.images) for side in sides]
        pairs = list(zip(predicted, (side.anatomy for side in sides), strict=True))
        supervised = sum(self.dice(prediction, truth) for prediction, truth in pairs if truth is not None)
        of_fixed, of_moving = (prediction if truth is None else truth for prediction, truth in pairs)
        return ANATOMY * self.dice(self.warp_nearest(of_moving, u), of_fixed) + SUPERVISED * supervised

    def segment(self, images: torch.Tensor) -> torch.Tensor:
        """Class probabilities ``(B, C, *S)``."""
        return self.nets["segmentation"](images).softmax(dim=1)

    def register(self, fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
        """Fields ``(B, 3, *S)``."""
        return self.nets["registration"](torch.cat([fixed, moving], dim=1))

    def _pairs(self, rng: np.random.Generator, kinds: list[tuple[bool, bool]]) -> list["Side"]:
        """The fixed and the moving side of a batch; a kind is drawn as often as it has batches."""
        batches = np.array([-(-len(self.kinds[kind]) // BATCH) for kind in kinds], float)
        kind = kinds[rng.choice(len(kinds), p=batches / batches.sum())]
        chosen = rng.permutation(self.kinds[kind])[:BATCH]
        return [self._side(indices, labelled) for indices, labelled in zip(chosen.T, kind, strict=True)]

    def _side(self, indices: np.ndarray, labelled: bool) -> "Side":
        anatomy = torch.stack([self.anatomies[index] for index in indices]) if labelled else None
        return Side(self.images[indices], anatomy)


class Side(NamedTuple):
    """One side of a batch of pairs: images ``(B, 1, *S)``, and ``(B, C, *S)`` where it has label maps."""

    images: torch.Tensor
    anatomy: torch.Tensor | None
