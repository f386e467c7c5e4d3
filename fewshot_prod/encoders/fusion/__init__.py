"""Fusion of the features of several modalities, any of which a product may lack: one kind a file.

Add one by writing its file and its line here. A kind is built by ``kind(dims, dim, **options)`` and called with two
dicts by name of modality, features and masks; ``reads_elements`` says whether a modality comes as one feature vector
(B, D) or as its elements (B, P, D): a title's tokens, a picture's regions; ``attends`` whether ``weights`` says how
much each modality counts.
"""

from __future__ import annotations

from typing import Any

from fewshot_prod.encoders.fusion.attention import AttentionFusion
from fewshot_prod.encoders.fusion.blocks import Fusion
from fewshot_prod.encoders.fusion.co_attention import CoAttentionFusion
from fewshot_prod.encoders.fusion.concat import ConcatFusion
from fewshot_prod.encoders.fusion.gated import GatedFusion
from fewshot_prod.encoders.fusion.late import LateFusion
from fewshot_prod.encoders.fusion.unit_attention import UnitAttentionFusion

FUSIONS: dict[str, type[Fusion]] = {
    "attention": AttentionFusion,
    "unit_attention": UnitAttentionFusion,
    "concat": ConcatFusion,
    "gated": GatedFusion,
    "co_attention": CoAttentionFusion,
    "late": LateFusion,
}


def build_fusion(dims: dict[str, int], kind: str, **options: Any) -> Fusion:
    """The fusion called ``kind``.

    Args:
        options: ``dim``, the size of the output, which "unit_attention" may leave out; and what else the kind takes.

    Raises:
        ValueError: for an unknown kind.

    Example:
        >>> build_fusion({"image": 6, "title": 4}, dim=8, kind="late").feature_dim
        8
    """
    if kind not in FUSIONS:
        raise ValueError(f"fusion is {kind!r}; choose one of {', '.join(FUSIONS)}")
    return FUSIONS[kind](dims, **options)


__all__ = [
    "FUSIONS",
    "AttentionFusion",
    "CoAttentionFusion",
    "ConcatFusion",
    "Fusion",
    "GatedFusion",
    "LateFusion",
    "UnitAttentionFusion",
    "build_fusion",
]
