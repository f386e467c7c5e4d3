"""Feature transforms that the feature methods share: SimpleShot's (Wang et al. 2019, section 2.2) and a power."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from fewshot_prod.encoders.unit_length import unit_length

Transform = Literal["CL2N", "L2N", "UN"]


def check_transform(transform: str, center: Tensor | None) -> None:
    """Raise ValueError if the transform is unknown, or CL2N has no center."""
    if transform not in ("CL2N", "L2N", "UN"):
        raise ValueError(f"transform is {transform!r}: give 'CL2N', 'L2N' or 'UN'")
    if transform == "CL2N" and center is None:
        raise ValueError("CL2N needs center, the mean feature of the base classes: give it, or choose 'L2N'")


def transform_features(features: Tensor, transform: str, center: Tensor | None) -> Tensor:
    """UN: features as they are; L2N: divided by their Euclidean norm; CL2N: minus ``center``, then L2N.

    Args:
        features: float32 (N, D).
        center: float32 (D,), mean feature of the *base* classes; used by CL2N alone.

    Returns:
        float32 (N, D).

    Example:
        >>> import torch
        >>> transform_features(torch.tensor([[4.0, 4.0]]), "CL2N", torch.tensor([1.0, 0.0]))
        tensor([[0.6000, 0.8000]])
    """
    if transform == "CL2N":
        features = features - center.to(features.device)
    return features if transform == "UN" else unit_length(features)


def power_transform(features: Tensor, power: float) -> Tensor:
    """Each value's size raised to ``power``, its sign kept: less skew than features after a ReLU have.

    Hu et al. 2021, arXiv:2006.03806, equation 1, before its projection; 1e-6 is added to every size, as there.

    Args:
        features: float32 (N, D).

    Returns:
        float32 (N, D).

    Example:
        >>> import torch
        >>> power_transform(torch.tensor([[4.0, -9.0, 0.0]]), 0.5)
        tensor([[ 2.0000e+00, -3.0000e+00,  1.0000e-03]])
    """
    return (features.abs() + 1e-6).pow(power).copysign(features)
