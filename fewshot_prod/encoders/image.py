"""Image encoders trained from scratch: Conv4, ResNet-12, and any torchvision classifier without its last layer.

All map normalised images, float (B, 3, H, W), to features (B, D), and pool globally, so that any H, W >= 16 works.
``norm="group"`` replaces batch normalisation by group normalisation (Wu & He 2018), whose statistics never mix images.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn


def normalisation(norm: str, channels: int) -> nn.Module:
    """The normalisation layer called ``norm``: "batch" or "group" (8 groups).

    Raises:
        ValueError: for another name.
    """
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "group":
        return nn.GroupNorm(8, channels)
    raise ValueError(f"unknown normalisation {norm!r}; choose 'batch' or 'group'")


class Conv4(nn.Module):
    """Four blocks of conv 3x3, normalisation, ReLU, max-pool 2x2 (Vinyals et al. 2016; Snell et al. 2017).

    Differs from the papers: the last map is averaged over positions instead of flattened, so that D does not
    depend on the image size.

    Example:
        >>> import torch
        >>> Conv4(width=32)(torch.zeros(2, 3, 64, 48)).shape
        torch.Size([2, 32])
    """

    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

    def __init__(self, width: int = 64, norm: str = "batch") -> None:
        super().__init__()
        self.feature_dim = width
        channels = (3, width, width, width, width)
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(c_in, c_out, 3, padding=1, bias=False),
                    normalisation(norm, c_out),
                    nn.ReLU(inplace=True),
                    nn.MaxPool2d(2),
                )
                for c_in, c_out in pairwise(channels)
            )
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.feature_map(images).mean(dim=(2, 3))

    def feature_map(self, images: Tensor) -> Tensor:
        """The last map before pooling, (B, D, h, w)."""
        return self.blocks(images)


class ResidualBlock(nn.Module):
    """Three 3x3 convolutions with a 1x1 shortcut, then max-pool 2x2 (the block of ResNet-12)."""

    def __init__(self, c_in: int, c_out: int, norm: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
        self.norm1 = normalisation(norm, c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.norm2 = normalisation(norm, c_out)
        self.conv3 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.norm3 = normalisation(norm, c_out)
        self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, bias=False), normalisation(norm, c_out))

    def forward(self, x: Tensor) -> Tensor:
        out = nn.functional.leaky_relu(self.norm1(self.conv1(x)), 0.1, inplace=True)
        out = nn.functional.leaky_relu(self.norm2(self.conv2(out)), 0.1, inplace=True)
        out = self.norm3(self.conv3(out)) + self.shortcut(x)
        return nn.functional.max_pool2d(nn.functional.leaky_relu(out, 0.1, inplace=True), 2)


class ResNet12(nn.Module):
    """ResNet-12 (Oreshkin et al. 2018; Lee et al. 2019, without DropBlock).

    Args:
        width: channels of the first block; the four blocks have width x (1, 2, 4, 8). 64 gives the papers'
            narrow variant; 32 trains three times as fast on a CPU.

    Example:
        >>> import torch
        >>> ResNet12(width=8)(torch.zeros(2, 3, 64, 48)).shape
        torch.Size([2, 64])
    """

    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

    def __init__(self, width: int = 32, norm: str = "batch") -> None:
        super().__init__()
        self.feature_dim = 8 * width
        channels = (3, width, 2 * width, 4 * width, 8 * width)
        self.blocks = nn.Sequential(*(ResidualBlock(c_in, c_out, norm) for c_in, c_out in pairwise(channels)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="leaky_relu")

    def forward(self, images: Tensor) -> Tensor:
        return self.feature_map(images).mean(dim=(2, 3))

    def feature_map(self, images: Tensor) -> Tensor:
        """The last map before pooling, (B, D, h, w)."""
        return self.blocks(images)


class TorchvisionEncoder(nn.Module):
    """Any torchvision classification network by name, its last linear layer removed; random weights.

    Raises:
        ValueError: for a name that torchvision does not list, or a network that does not end in a linear layer.

    Example:
        >>> import torch
        >>> TorchvisionEncoder("shufflenet_v2_x0_5")(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 1024])
    """

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, which torchvision's recipes use

    def __init__(self, name: str) -> None:
        super().__init__()
        from torchvision import models  # over a second to import

        known = models.list_models(module=models)
        if name not in known:
            raise ValueError(f"torchvision has no classifier {name!r}; it has {', '.join(known)}")
        self.network = models.get_model(name, weights=None)
        linear = [(path, m) for path, m in self.network.named_modules() if isinstance(m, nn.Linear)]
        if not linear:
            raise ValueError(f"torchvision's {name!r} does not end in a linear layer, so its features are not defined")
        path, last = linear[-1]
        self.network.set_submodule(path, nn.Identity())
        self.feature_dim = last.in_features

    def forward(self, images: Tensor) -> Tensor:
        features = self.network(images)
        # inception and googlenet return auxiliary logits beside the features while training
        return features if isinstance(features, Tensor) else features[0]


def image_encoder(name: str, *, width: int | None = None, norm: str = "batch") -> nn.Module:
    """The image encoder called ``name``: "conv4", "resnet12", "efficientnet_lite0" (ImageNet weights) or torchvision's.

    Example:
        >>> image_encoder("conv4", width=16).feature_dim
        16
    """
    if name == "conv4":
        return Conv4(width or 64, norm)
    if name == "resnet12":
        return ResNet12(width or 32, norm)
    if width is not None or norm != "batch":
        raise ValueError(f"width and norm belong to conv4 and resnet12; {name!r} has neither")
    if name == "efficientnet_lite0":
        from fewshot_prod.encoders.pretrained import EfficientNetLite0

        return EfficientNetLite0()
    return TorchvisionEncoder(name)
