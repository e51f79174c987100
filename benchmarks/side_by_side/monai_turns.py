"""PyTorch and MONAI, as their users write it: the turns and the warp, on PyTorch's default device.

Beside PyTorch and NumPy nothing but MONAI's networks and losses is imported, which is all that a machine with a GPU may
have.
"""

import warnings

import numpy as np
import torch
from torch.nn import functional

from side_by_side.monai_nets import registration_net, segmentation_net
from side_by_side.worker import Task

warnings.filterwarnings("ignore", module="monai")
from monai.losses import BendingEnergyLoss, DiceLoss, LocalNormalizedCrossCorrelationLoss  # noqa: E402
from monai.networks.blocks import Warp  # noqa: E402
from monai.networks.utils import one_hot  # noqa: E402

CENTRAL = "MONAI has the mixed derivatives over two voxels, and leaves out those at the border"
AFTER = "after an update of the registration network, whose bending energy differs"
SQUARED = "MONAI squares the local correlation, so that patches that correlate negatively count as a match"
_warp = Warp("bilinear", "border")


class DeepAtlas:
    """The two networks, the turn that is trained, and a pair of which the moving side is labelled."""

    def __init__(self, settings, arrays):
        self.n_classes = settings["n_classes"]
        self.registration = registration_net(settings, arrays)
        self.segmentation = segmentation_net(settings, arrays)
        self.moving, self.fixed = channels_first(arrays["moving"]), channels_first(arrays["fixed"])
        self.label = on_device(arrays["label"]).long()
        self.similarity = global_ncc
        if settings.get("similarity") == "local_ncc":
            local = LocalNormalizedCrossCorrelationLoss(spatial_dims=3, kernel_size=9)
            self.similarity = lambda warped, fixed: 1 + local(warped, fixed)
        self.bending = BendingEnergyLoss()
        self.dice = DiceLoss(include_background=False)
        nets = {"registration": self.registration, "segmentation": self.segmentation}
        self.optimizers = {name: torch.optim.Adam(net.parameters(), 1e-3, eps=1e-7) for name, net in nets.items()}

    def registration_terms(self):
        """Only the fixed image needs a prediction: the moving one is labelled."""
        u = self.registration(self.moving, self.fixed).float()  # of autocast: 8 bits do not number the voxels
        with torch.no_grad():
            predicted = self.segmentation(self.fixed).softmax(dim=1)
        warped = _warp(torch.cat([self.moving, self.one_hot()], dim=1), u)
        return {
            "similarity": self.similarity(warped[:, :1], self.fixed),
            "smoothness": 3 * self.bending(u),  # the mean over the components, where deepatlas_tf has the sum
            "anatomy": self.dice(warped[:, 1:], predicted),
        }

    def segmentation_terms(self):
        with torch.no_grad():
            warped = _warp(self.one_hot(), self.registration(self.moving, self.fixed).float())
        # One after the other: as a batch of two they took a third longer
        logits, fixed_logits = self.segmentation(self.moving), self.segmentation(self.fixed)
        return {
            "anatomy": self.dice(fixed_logits.softmax(dim=1), warped),
            "supervised": self.dice(logits.softmax(dim=1), self.one_hot()),
            "supervised_cross_entropy": functional.cross_entropy(logits, self.label),
        }

    def one_hot(self):
        """(1, C, *S) of the moving label map."""
        return one_hot(self.label[:, None], self.n_classes)

    def update(self, turn):
        terms = getattr(self, f"{turn}_terms")()
        loss = sum(terms.values())
        self.optimizers[turn].zero_grad()
        loss.backward()
        self.optimizers[turn].step()
        return {name: float(value.detach()) for name, value in {"loss": loss, **terms}.items()}


def turn_task(settings, arrays):
    """A step of one turn, or of both one after the other."""
    method = DeepAtlas(settings, arrays)
    values = {}
    if len(settings["turns"]) == 1:
        with torch.no_grad():
            u = method.registration(method.moving, method.fixed)
        values["field"] = float(u.square().mean().sqrt())
    for turn in settings["turns"]:
        values |= {f"{turn}/{name}": value for name, value in method.update(turn).items()}
    differs = {"registration/smoothness": CENTRAL, "registration/loss": CENTRAL}
    if settings.get("similarity") == "local_ncc":
        differs["registration/similarity"] = SQUARED
    if len(settings["turns"]) > 1:
        differs |= {name: AFTER for name in values if name.startswith("segmentation/")}
    return Task(lambda: [method.update(turn) for turn in settings["turns"]], values, differs)


def warp_task(settings, arrays):
    """``grid_sample`` with the arithmetic from a displacement field to its grid."""
    image, upstream = channels_first(arrays["image"]), channels_first(arrays["gradient"])
    u = channels_first(arrays["u"])
    wanted = {"none": [], "field": [u], "both": [u, image]}[settings["gradient"]]
    for tensor in wanted:
        tensor.requires_grad_()
    sizes = torch.tensor(u.shape[:1:-1])
    axes = [torch.linspace(-1, 1, n) for n in u.shape[2:]]
    identity = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1)[None]
    scale = 2 / (sizes - 1)

    def step():
        grid = identity + u.movedim(1, -1).flip(-1) * scale
        warped = functional.grid_sample(image, grid, padding_mode="border", align_corners=True)
        return warped, *(torch.autograd.grad(warped, wanted, upstream) if wanted else ())

    return Task(step, sizes_of(step()))


def global_ncc(warped, fixed):
    """MONAI has none."""
    a, b = warped - warped.mean(), fixed - fixed.mean()
    return 1 - (a * b).mean() * torch.rsqrt(a.square().mean() * b.square().mean() + 1e-10)


def sizes_of(results) -> dict[str, float]:
    """Mean absolute values, to be compared with the other side's."""
    names = ("warped", "gradient of the field", "gradient of the image")
    return {name: float(value.detach().abs().mean()) for name, value in zip(names, results, strict=False)}


def channels_first(array: np.ndarray) -> torch.Tensor:
    """(B, *S, C) -> (B, C, *S)."""
    return on_device(np.moveaxis(array, -1, 1).copy())


def on_device(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).to(torch.get_default_device())
