"""The networks of ``deepatlas_tf.models`` in PyTorch, layer by layer; parameters keep the names of the Keras layers."""

import torch
from torch import nn
from torch.nn import functional


class RegistrationNet(nn.Module):
    """``registration_net``: voxelmorph's U-Net, ``(B, 2, *S) -> u (B, 3, *S)`` in voxels."""

    def __init__(self, encoder, decoder):
        super().__init__()
        self.n_levels, self.n_final = len(encoder), len(decoder) - len(encoder)
        layers, channels = {}, 2
        for level, width in enumerate(encoder):
            layers[f"unet_enc_conv_{level}_0"] = _conv(channels, width)
            channels = width
        for step, width in enumerate(decoder[: self.n_levels]):
            level = self.n_levels - 1 - step
            layers[f"unet_dec_conv_{level}_0"] = _conv(channels, width)
            channels = width + encoder[level]
        for index, width in enumerate(decoder[self.n_levels :]):
            layers[f"unet_dec_final_conv_{index}"] = _conv(channels, width)
            channels = width
        layers["flow"] = _conv(channels, 3)
        self.layers = nn.ModuleDict(layers)

    def forward(self, moving, fixed):
        x, skips = torch.cat([moving, fixed], dim=1), []
        for level in range(self.n_levels):
            x = self._activated(f"unet_enc_conv_{level}_0", x)
            skips.append(x)
            x = functional.max_pool3d(x, 2)
        for level in reversed(range(self.n_levels)):
            x = self._activated(f"unet_dec_conv_{level}_0", x)
            x = torch.cat([functional.interpolate(x, scale_factor=2, mode="nearest"), skips[level]], dim=1)
        for index in range(self.n_final):
            x = self._activated(f"unet_dec_final_conv_{index}", x)
        return self.layers["flow"](x)

    def _activated(self, name, x):
        return functional.leaky_relu(self.layers[name](x), 0.2, inplace=True)


class SegmentationNet(nn.Module):
    """``light_unet``: ``(B, 1, *S) -> logits (B, C, *S)``."""

    def __init__(self, n_classes, widths):
        super().__init__()
        self.n_levels = len(widths)
        layers, channels = {}, 1
        for level, width in enumerate(widths):
            layers |= _block(f"down{level}", channels, width)
            channels = width
        for level in reversed(range(self.n_levels - 1)):
            layers |= _block(f"up{level}", channels + widths[level], widths[level])
            channels = widths[level]
        layers["logits"] = nn.Conv3d(channels, n_classes, 1)
        self.layers = nn.ModuleDict(layers)

    def forward(self, x):
        skips = []
        for level in range(self.n_levels):
            x = self._apply_block(f"down{level}", x)
            if level < self.n_levels - 1:
                skips.append(x)
                x = functional.max_pool3d(x, 2)
        for level in reversed(range(self.n_levels - 1)):
            x = functional.interpolate(x, scale_factor=2, mode="nearest")
            x = self._apply_block(f"up{level}", torch.cat([x, skips[level]], dim=1))
        return self.layers["logits"](x)

    def _apply_block(self, name, x):
        for index in range(2):
            x = self.layers[f"{name}_norm{index}"](self.layers[f"{name}_conv{index}"](x))
            x = functional.leaky_relu(x, 0.01, inplace=True)
        return x


def registration_net(settings, weights) -> RegistrationNet:
    """With the widths of a case and the weights of the other side."""
    widths = settings["widths"]
    net = RegistrationNet(widths["registration_encoder"], widths["registration_decoder"])
    return load(net, weights, "registration")


def segmentation_net(settings, weights) -> SegmentationNet:
    """With the widths of a case and the weights of the other side."""
    net = SegmentationNet(settings["n_classes"], settings["widths"]["segmentation_widths"])
    return load(net, weights, "segmentation")


def load(net: nn.Module, weights, prefix: str) -> nn.Module:
    """Fill a network with the arrays ``PREFIX/LAYER/KIND`` of the Keras network; every parameter has to be there."""
    names = {"kernel": "weight", "bias": "bias", "scale": "weight", "offset": "bias"}
    state = {}
    for name, array in weights.items():
        if name.startswith(f"{prefix}/"):
            _, layer, kind = name.split("/")
            # DHWIO -> OIDHW
            value = array.transpose(4, 3, 0, 1, 2) if kind == "kernel" else array
            state[f"layers.{layer}.{names[kind]}"] = torch.from_numpy(value.copy())
    net.load_state_dict(state)
    return net


def _conv(channels, width):
    return nn.Conv3d(channels, width, 3, padding=1)


def _block(name, channels, width):
    layers = {}
    for index in range(2):
        layers[f"{name}_conv{index}"] = nn.Conv3d(channels, width, 3, padding=1, bias=False)
        layers[f"{name}_norm{index}"] = nn.InstanceNorm3d(width, affine=True, eps=1e-5)
        channels = width
    return layers
