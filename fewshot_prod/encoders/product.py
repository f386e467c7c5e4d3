"""ProductEncoder: image encoder, title encoder and their fusion behind one forward, built from a JSON-able config."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from fewshot_prod.catalog.titles import TitleTokenizer
from fewshot_prod.encoders.attributes import AttributeEncoder
from fewshot_prod.encoders.fusion import build_fusion
from fewshot_prod.encoders.heads import build_head
from fewshot_prod.encoders.image import image_encoder
from fewshot_prod.encoders.inner_rates import InnerRates
from fewshot_prod.encoders.title import title_encoder
from fewshot_prod.inputs import ProductInputs

MODALITIES = ("image", "title", "attributes")  # each an attribute of ProductEncoder and a key of its config


class ProductEncoder(nn.Module):
    """Features of products from their image, their title, their attributes, or any of these together.

    Args:
        config: ``image``: arguments of :func:`image_encoder`; ``title``: arguments of :func:`title_encoder`;
            ``attributes``: arguments of :class:`AttributeEncoder`; each may be left out or None. ``fusion``:
            ``{"kind": a key of FUSIONS, "dim": int}``, needed with several of them; ``tokenizer``: the JSON of a
            trained :class:`TitleTokenizer`, kept beside the weights, which pretrained title encoders do without;
            ``head``: what a metric method learned beside the encoder, see :func:`build_head`; ``inner_rates``: true
            where Meta-SGD's :class:`InnerRates` belong to the weights.

    Raises:
        ValueError: if the config names no modality, or several without a fusion, or a fusion that does not fit.

    Example:
        >>> encoder = build_encoder({"image": {"name": "conv4", "width": 16}})
        >>> encoder(ProductInputs(images=torch.zeros(2, 32, 32, 3, dtype=torch.uint8))).shape
        torch.Size([2, 16])
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = config
        image, title, attributes, fusion = (config.get(name) for name in (*MODALITIES, "fusion"))
        if image is None and title is None:
            raise ValueError("an encoder needs an 'image' part, a 'title' part or both")
        self.image = image_encoder(**image) if image else None
        self.title = title_encoder(**title) if title else None
        if hasattr(self.title, "arguments"):  # it was read from a folder, which a checkpoint does without
            self.config = config | {"title": self.title.arguments}
        self.attributes = AttributeEncoder(**attributes) if attributes else None
        if self.image is not None:
            self.register_buffer("mean", torch.tensor(self.image.mean).view(3, 1, 1) * 255, persistent=False)
            self.register_buffer("std", torch.tensor(self.image.std).view(3, 1, 1) * 255, persistent=False)
        parts = {name: getattr(self, name) for name in MODALITIES}
        dims = {name: part.feature_dim for name, part in parts.items() if part is not None}
        if (len(dims) > 1) != (fusion is not None):
            raise ValueError(f"'fusion' is given if and only if there are several modalities; here are {list(dims)}")
        self.fusion = build_fusion(dims, **fusion) if fusion else None
        if self.fusion is not None and self.fusion.reads_elements and image and not hasattr(self.image, "feature_map"):
            raise ValueError(
                f"fusion {fusion['kind']!r} attends to regions of the last feature map, which torchvision's "
                f"{image['name']!r} does not give: choose conv4, resnet12 or efficientnet_lite0, or another fusion"
            )
        self.feature_dim: int = self.fusion.feature_dim if self.fusion else next(iter(dims.values()))
        self.head = build_head(config["head"], self.feature_dim) if config.get("head") else None
        if config.get("inner_rates"):
            self.inner_rates = InnerRates(self, 0.0)  # their values come with the weights

    @property
    def modality(self) -> str:
        """What it reads, joined by "+", such as "image+title" or "image+title+attributes", as it stands in records."""
        return "+".join(name for name in MODALITIES if getattr(self, name) is not None)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def pretrained_on(self) -> list[str]:
        """What the parts that come with weights were trained on, as they come."""
        return [part.pretrained_on for part in self.children() if hasattr(part, "pretrained_on")]

    @property
    def tokenizer(self) -> Any | None:
        """What makes tokens of titles by ``encode(titles)``: a pretrained title encoder's own, or the config's."""
        if hasattr(self.title, "tokenizer"):
            return self.title.tokenizer
        text = self.config.get("tokenizer")
        return TitleTokenizer.from_json(text) if text else None

    def forward(self, inputs: ProductInputs) -> Tensor:
        """Features, float32 (B, D). A lone modality that a product lacks gives that product a zero vector."""
        if self.fusion is not None:
            return self.fusion(*self._read(inputs, self.fusion.reads_elements)).float()
        features, present = self.modality_features(inputs)
        (name,) = features
        return features[name].float() * present[name].unsqueeze(1)

    @torch.no_grad()
    def attention(self, inputs: ProductInputs, batch_size: int = 256) -> dict[str, Tensor]:
        """What is attended to, without dropout; computed a batch at a time where the encoder is.

        Returns:
            On the CPU: "tokens", float32 (B, T), if there is a title part: over the tokens of each title, 0 on padding;
            rows sum to 1, and to 0 for a missing title. "modalities", float32 (B, M), if they are fused by attention:
            in the order of ``MODALITIES``, 0 for a missing one; rows sum to 1.
        """
        was_training = self.training
        self.eval()
        found: dict[str, list[Tensor]] = defaultdict(list)
        for rows in torch.arange(len(inputs)).split(batch_size):
            batch = inputs[rows].to(self.device)
            if self.title is not None:
                found["tokens"].append(self.title.attention_weights(batch.tokens, batch.lengths).cpu())
            if self.fusion is not None and self.fusion.attends:
                found["modalities"].append(self.fusion.weights(*self.modality_features(batch)).cpu())
        self.train(was_training)
        return {name: torch.cat(parts) for name, parts in found.items()}

    def modality_features(self, inputs: ProductInputs) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Each modality's features (B, D_m) before fusion, and bool (B,) saying which products have it."""
        return self._read(inputs, False)

    def _read(self, inputs: ProductInputs, elements: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Features (B, D_m) of each modality, or elements (B, P_m, D_m), as tokens or regions; and which exist."""
        features, present = {}, {}
        if self.image is not None:
            features["image"] = self._read_images(inputs, elements)
            there = inputs.has_image
            if there is None:
                there = torch.ones(len(inputs), dtype=torch.bool, device=features["image"].device)
            present["image"] = there.unsqueeze(1).expand(features["image"].shape[:2]) if elements else there
        if self.title is not None:
            if inputs.tokens is None:
                raise ValueError("this encoder reads titles, and these inputs have none; build them with its tokenizer")
            if elements:
                features["title"], present["title"] = self.title.elements(inputs.tokens, inputs.lengths)
            else:
                features["title"], present["title"] = self.title(inputs.tokens, inputs.lengths), inputs.lengths > 0
        if self.attributes is not None:
            if inputs.attributes is None:
                raise ValueError("this encoder reads attributes, and these inputs have none")
            if elements:
                features["attributes"], present["attributes"] = self.attributes.elements(inputs.attributes)
            else:
                features["attributes"], present["attributes"] = (
                    self.attributes(inputs.attributes),
                    (inputs.attributes > 0).any(1),
                )
        return features, present

    def _read_images(self, inputs: ProductInputs, elements: bool) -> Tensor:
        """The image part's features (B, D), or those of its regions (B, h * w, D)."""
        if inputs.image_features is not None:
            if elements:
                raise ValueError(
                    "this encoder's fusion reads regions of images: give it the images, not their features"
                )
            return inputs.image_features
        if inputs.images is None:
            raise ValueError("this encoder reads images, and these inputs have none; build them with image_size")
        # uint8 NHWC permuted to NCHW is channels_last without a copy
        pixels = (inputs.images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        return self.image.feature_map(pixels).flatten(2).mT if elements else self.image(pixels)


def build_encoder(config: dict[str, Any]) -> ProductEncoder:
    """The encoder that ``config`` describes, freshly initialised; see :class:`ProductEncoder`."""
    return ProductEncoder(config)
