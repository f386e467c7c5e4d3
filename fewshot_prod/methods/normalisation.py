"""Normalisation inside an inner loop: which statistics it uses is said, never left to a mode."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

NORMS = ("frozen", "batch", "group", "support")


def batch_norms(encoder: nn.Module, norm: str) -> list[nn.Module]:
    """The encoder's batch-normalisation layers, which ``norm`` is about.

    Raises:
        ValueError: for an unknown ``norm``, or "group" although there are such layers.
    """
    if norm not in NORMS:
        raise ValueError(f"norm={norm!r} is unknown; choose one of {', '.join(NORMS)}")
    layers = [m for m in encoder.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d))]
    if norm == "group" and layers:
        raise ValueError(
            f"norm='group' but the encoder has {len(layers)} batch-normalisation layers: build it with norm='group', "
            "or choose norm='frozen' (running statistics)"
        )
    return layers


class FoldedNorm(nn.Module):
    """A convolution and the batch normalisation behind it, with running statistics, as one convolution.

    The same function of the same parameters, but without the passes over the feature maps that normalising and its
    derivatives take: a second-order step of Conv4 takes half the time.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.conv, self.norm = conv, norm

    def forward(self, x: Tensor) -> Tensor:
        conv, norm = self.conv, self.norm
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)  # (channels,)
        shift = norm.bias - norm.running_mean * scale
        bias = shift if conv.bias is None else shift + conv.bias * scale
        return conv._conv_forward(x, conv.weight * scale[:, None, None, None], bias)


def foldable(norm: nn.Module) -> bool:
    """Whether ``norm`` is a batch normalisation with running statistics and a learned scale."""
    return isinstance(norm, nn.BatchNorm2d) and norm.affine and norm.running_mean is not None


def fold_norms(encoder: nn.Module) -> None:
    """Fold each batch normalisation that stands behind a convolution in an ``nn.Sequential``."""
    for chain in [m for m in encoder.modules() if isinstance(m, nn.Sequential)]:
        for i, (conv, norm) in enumerate(itertools.pairwise(list(chain))):
            if isinstance(conv, nn.Conv2d) and foldable(norm):
                chain[i], chain[i + 1] = FoldedNorm(conv, norm), nn.Identity()


class NormOfFirstRows(nn.Module):
    """Batch normalisation by the statistics of a batch's first rows, in plain arithmetic.

    Where the support stands in front of the queries, each query is normalised as if it were the only one: what batch
    statistics do to an episode, but inductive. Over all rows it is PyTorch's own, which does not run under vmap on a
    GPU.

    Attributes:
        n_rows: how many rows at the front of the batch count; None for all of them.
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm, self.n_rows = norm, None

    def forward(self, x: Tensor) -> Tensor:
        norm = self.norm
        x = x.to(norm.weight.dtype)  # statistics of bfloat16 maps would lose digits
        places = [0, *range(2, x.dim())]
        shape = (1, -1, *[1] * (x.dim() - 2))
        variance, mean = torch.var_mean(x[: self.n_rows], places, correction=0)
        scale = norm.weight * torch.rsqrt(variance + norm.eps)  # (channels,)
        return x * scale.view(shape) + (norm.bias - mean * scale).view(shape)


def other_layer_norm(part: nn.Module) -> bool:
    """Whether ``part`` is a layer normalisation that :class:`PlainLayerNorm` cannot stand for, such as ConvNeXt's."""
    return isinstance(part, nn.LayerNorm) and type(part) is not nn.LayerNorm


class PlainLayerNorm(nn.LayerNorm):
    """Layer normalisation in plain arithmetic: under vmap the second derivative of PyTorch's own is wrong, silently.

    Its backward pass takes mean and variance for constants there (pytorch/functorch, issue 534).

    Example:
        >>> norm, x = nn.LayerNorm(4), torch.randn(2, 4)
        >>> torch.allclose(PlainLayerNorm.sharing(norm)(x), norm(x), atol=1e-6)
        True
    """

    @classmethod
    def sharing(cls, norm: nn.LayerNorm) -> PlainLayerNorm:
        """The same function of the same parameters."""
        plain = cls(norm.normalized_shape, norm.eps, elementwise_affine=False)
        plain.weight, plain.bias = norm.weight, norm.bias
        return plain

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.weight is None else x.to(self.weight.dtype)  # statistics of bfloat16 would lose digits
        variance, mean = torch.var_mean(x, [*range(-len(self.normalized_shape), 0)], correction=0, keepdim=True)
        normalised = (x - mean) * torch.rsqrt(variance + self.eps)
        normalised = normalised if self.weight is None else normalised * self.weight
        return normalised if self.bias is None else normalised + self.bias
