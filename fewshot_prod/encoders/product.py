"""ProductEncoder: image encoder, title encoder and their fusion behind one forward, built from a JSON-able config."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fewshot_prod.encoders.fusion import AttentionFusion, ConcatFusion
from fewshot_prod.encoders.heads import build_head
from fewshot_prod.encoders.image import image_encoder
from fewshot_prod.encoders.inner_rates import InnerRates
from fewshot_prod.encoders.title import TitleEncoder
from fewshot_prod.inputs import ProductInputs

FUSIONS = {"attention": AttentionFusion, "concat": ConcatFusion}


class ProductEncoder(nn.Module):
    """Features of products from their image, their title, or both.

    Args:
        config: ``image``: arguments of :func:`image_encoder` or None; ``title``: arguments of
            :class:`TitleEncoder` or None; ``fusion``: ``{"kind": "attention" | "concat", "dim": int}``, needed when
            both are there; ``tokenizer``: the JSON of a trained :class:`TitleTokenizer`, kept beside the weights;
            ``head``: what a metric method learned beside the encoder, see :func:`build_head`; ``inner_rates``: true
            where Meta-SGD's :class:`InnerRates` belong to the weights.

    Raises:
        ValueError: if the config names no modality, or two without a fusion.

    Example:
        >>> encoder = build_encoder({"image": {"name": "conv4", "width": 16}})
        >>> encoder(ProductInputs(images=torch.zeros(2, 32, 32, 3, dtype=torch.uint8))).shape
        torch.Size([2, 16])
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = config
        image, title, fusion = config.get("image"), config.get("title"), config.get("fusion")
        if image is None and title is None:
            raise ValueError("an encoder needs an 'image' part, a 'title' part or both")
        if (image is not None and title is not None) != (fusion is not None):
            raise ValueError("'fusion' is given if and only if there are both an 'image' and a 'title' part")
        self.image = image_encoder(**image) if image else None
        self.title = TitleEncoder(**title) if title else None
        if self.image is not None:
            self.register_buffer("mean", torch.tensor(self.image.mean).view(3, 1, 1) * 255, persistent=False)
            self.register_buffer("std", torch.tensor(self.image.std).view(3, 1, 1) * 255, persistent=False)
        parts = {"image": self.image, "title": self.title}
        dims = {name: part.feature_dim for name, part in parts.items() if part is not None}
        self.fusion = None
        if fusion:
            arguments = dict(fusion)
            self.fusion = FUSIONS[arguments.pop("kind")](dims, **arguments)
        self.feature_dim: int = self.fusion.feature_dim if self.fusion else next(iter(dims.values()))
        self.head = build_head(config["head"], self.feature_dim) if config.get("head") else None
        if config.get("inner_rates"):
            self.inner_rates = InnerRates(self, 0.0)  # their values come with the weights

    @property
    def modality(self) -> str:
        """ "image", "title" or "image+title", as it stands in records."""
        return "+".join(name for name in ("image", "title") if getattr(self, name) is not None)

    def forward(self, inputs: ProductInputs) -> Tensor:
        """Features, float32 (B, D). A lone modality that a product lacks gives that product a zero vector."""
        features, present = self.modality_features(inputs)
        if self.fusion is not None:
            return self.fusion(features, present).float()
        (name,) = features
        return features[name].float() * present[name].unsqueeze(1)

    @torch.no_grad()
    def attention(self, inputs: ProductInputs) -> dict[str, Tensor]:
        """What is attended to, without dropout.

        Returns:
            "tokens", float32 (B, T), if there is a title part: over the tokens of each title, 0 on padding and
            for a missing title. "modalities", float32 (B, 2), if image and title are fused by attention: image
            first. Rows sum to 1.
        """
        was_training = self.training
        self.eval()
        found = {}
        if self.title is not None:
            found["tokens"] = self.title.attention_weights(inputs.tokens, inputs.lengths)
        if isinstance(self.fusion, AttentionFusion):
            found["modalities"] = self.fusion.weights(*self.modality_features(inputs))
        self.train(was_training)
        return found

    def modality_features(self, inputs: ProductInputs) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Each modality's features (B, D_m) before fusion, and bool (B,) saying which products have it."""
        features, present = {}, {}
        if self.image is not None:
            if inputs.images is None:
                raise ValueError("this encoder reads images, and these inputs have none; build them with image_size")
            # uint8 NHWC permuted to NCHW is channels_last without a copy
            pixels = (inputs.images.permute(0, 3, 1, 2).float() - self.mean) / self.std
            features["image"] = self.image(pixels)
            present["image"] = (
                inputs.has_image
                if inputs.has_image is not None
                else torch.ones(len(pixels), dtype=torch.bool, device=pixels.device)
            )
        if self.title is not None:
            if inputs.tokens is None:
                raise ValueError("this encoder reads titles, and these inputs have none; build them with its tokenizer")
            features["title"] = self.title(inputs.tokens, inputs.lengths)
            present["title"] = inputs.lengths > 0
        return features, present


def build_encoder(config: dict[str, Any]) -> ProductEncoder:
    """The encoder that ``config`` describes, freshly initialised; see :class:`ProductEncoder`."""
    return ProductEncoder(config)
