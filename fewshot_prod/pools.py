"""What methods are evaluated on: the products of a split's part as an encoder sees them, and episodes over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fewshot_prod.base_novel import CalibratedStacking, base_penalty
from fewshot_prod.catalog import Catalog, CatalogError
from fewshot_prod.checkpoints import CheckpointError
from fewshot_prod.class_embeddings import class_embeddings, class_texts
from fewshot_prod.episodes import EpisodeSampler
from fewshot_prod.features import cached_features
from fewshot_prod.inputs import ProductInputs
from fewshot_prod.methods import METHODS
from fewshot_prod.methods.am3 import AdaptiveMixing, fit_mixing
from fewshot_prod.missing import Missing, QueriesApart
from fewshot_prod.names import UnknownName
from fewshot_prod.prepare import Prepared, columns_read, has_mirror_images
from fewshot_prod.settings import Setting, calibration_sampler, episode_products
from fewshot_prod.splits import Split

if TYPE_CHECKING:
    from fewshot_prod.rows import Row

BASE_GROUPS = 40  # products of each base class that AM3 is fitted to
# What build_method finds for a method, from the encoder and the base classes: nobody's choice.
FOUND = ("encoder", "module", "center", "mixing", "class_embeddings", "blocks")
CENTER_PRODUCTS = 2000  # base products whose mean feature is CL2N's centre, evenly spaced over the catalog


class Pools:
    """The novel products as one encoder sees them, embedded or read when first asked for.

    Args:
        part: "novel", or "validation" to choose hyperparameters on.
        with_base: the products of the base classes too, held out or not.

    Attributes:
        products: what a sampler's rows are, see :func:`episode_products`.

    Raises:
        CatalogError: if the encoder was trained on this catalog with some of the part's classes, or sees nothing of
            any product of the part.
    """

    def __init__(
        self, prepared: Prepared, catalog: Catalog, split: Split, part: str = "novel", *, with_base: bool = False
    ) -> None:
        self.prepared, self.catalog, self.split, self.part = prepared, catalog, split, part
        self.products = episode_products(catalog, split, part, with_base=with_base)
        self._name = f"{part} and base" if with_base else part
        refuse_seen_classes(prepared.facts.get("seen"), catalog, split, part)
        reads = columns_read(prepared.encoder)
        if len(self.products) and not self.products.has(reads).any():
            raise CatalogError(
                f"this encoder reads {' and '.join(f'{name}s' for name in reads)}, and no {part} product of catalog "
                f"{catalog.name!r} has one: choose another encoder"
            )
        self._made: dict[str, Any] = {}

    def of(self, method: Any) -> Any:
        """What ``method`` needs: float32 features (N, D), where the encoder and its head are, or ProductInputs."""
        if method.needs == "features":
            return self.features().to(self.prepared.encoder.device)
        parts = getattr(method, "parts", None)
        return self.inputs(pixels=parts is None or "image" in parts.split("+"))

    def inputs(self, pixels: bool = True) -> ProductInputs:
        """The products; without ``pixels`` by their image features where training froze the image part."""
        return self._once(f"inputs, pixels {pixels}", lambda: self._read(self.products, pixels))

    def features(self) -> Tensor:
        """float32 (N, D) on the CPU."""
        return self._once("features", lambda: self._embed(self._name, self.inputs(pixels=False)))

    def calibrated(self, method: Any, row: Row, setting: Setting, seed: int) -> CalibratedStacking:
        """``method`` with the penalty on base logits that does best on the validation classes beside the base ones.

        Args:
            row: what ``method`` was built from; it is built anew for those classes, which AM3 has other texts for.
        """
        validation = self._once(
            "validation", lambda: Pools(self.prepared, self.catalog, self.split, "validation", with_base=True)
        )
        sampler = calibration_sampler(self.catalog, self.split, setting, seed)
        on_validation = validation.build(row.method, **row.options)
        return CalibratedStacking(method, base_penalty(on_validation, validation.of(on_validation), sampler))

    def without(self, missing: Missing, sampler: EpisodeSampler) -> tuple[Tensor, QueriesApart]:
        """Features (2 N, D), where the encoder is: the products as supports show them, then as queries do; and episodes
        over these rows."""
        whole = self.features()
        hidden = missing.hide(self.inputs(pixels=False), self.products.frame["product_id"].tolist())
        part = f"{self._name}, {100 * missing.rate:g} % without {missing.modality}"
        less = self._once(part, lambda: self._embed(part, hidden))
        support, query = (less if missing.where in (side, "both") else whole for side in ("supports", "queries"))
        return torch.cat([support, query]).to(self.prepared.encoder.device), QueriesApart(sampler, len(whole))

    def center(self) -> Tensor:
        """Mean feature of the base classes, float32 (D,) on the CPU."""
        return self._once("center", self._center)

    def build(self, method: str, **options: Any) -> Any:
        """The method for this encoder and these products, see :func:`build_method`."""
        return build_method(method, self.prepared, self.center, self.mixing, **options)

    def mixing(self, texts: str, **options: Any) -> tuple[AdaptiveMixing, Tensor]:
        """AM3's networks, fitted to the base classes, and embeddings of the texts of the part's categories.

        Args:
            texts: see :func:`class_texts`.
            options: of :func:`fit_mixing`.
        """
        base = self.split.select(self.catalog, "base").take_groups(BASE_GROUPS)
        known, asked = class_texts(base, texts), class_texts(self.products, texts)
        mixing = fit_mixing(
            self._embed(f"base, {BASE_GROUPS} groups a class", self._read(base, pixels=False)),
            base.category_ids,
            base.groups,
            class_embeddings(self.prepared.encoder, known, known),
            seed=self.prepared.facts["training"]["seed"] or 0,
            **options,
        )
        return mixing, class_embeddings(self.prepared.encoder, asked, known)

    def _center(self) -> Tensor:
        sample = self.split.select(self.catalog, "base").take_evenly(CENTER_PRODUCTS)
        return self._embed("base", self._read(sample, False)).mean(0)

    def _read(self, products: Catalog, pixels: bool) -> ProductInputs:
        cached = not pixels and self.prepared.facts.get("image_features")
        return (self.prepared.feature_inputs if cached else self.prepared.inputs)(products)

    def _embed(self, part: str, inputs: ProductInputs) -> Tensor:
        facts = self.prepared.facts
        made_of = [self.catalog.fingerprint, self.split.fingerprint, *self.prepared.pixel_key, facts["masked_classes"]]
        key = [part, *made_of]
        options = {"flip": has_mirror_images(self.catalog), "precision": facts["precision"]}
        return cached_features(self.prepared.encoder, inputs, inputs_key=str(key), **options)

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]


def refuse_seen_classes(seen: dict[str, Any] | None, catalog: Catalog, split: Split, part: str) -> None:
    """Raise CatalogError if an encoder saw classes that it is to be evaluated on.

    Args:
        seen: "catalog", and the names of its "base" and "validation" classes; None: not known.
    """
    if seen is None or seen["catalog"] != catalog.name:
        return
    known = {*seen["base"], *(seen["validation"] if part == "novel" else ())}
    both = sorted(known.intersection(getattr(split, part)))
    if both:
        raise CatalogError(
            f"this encoder was trained or chosen on {len(both)} of the {len(getattr(split, part))} {part} classes of "
            f"{split.name}, such as {both[0]!r}: evaluate it on the split that it was trained for"
        )


def build_method(
    name: str,
    prepared: Prepared,
    center: Callable[[], Tensor],
    mixing: Callable[..., tuple[AdaptiveMixing, Tensor]] | None = None,
    **options: Any,
) -> Any:
    """A method ready for ``prepared``'s encoder: what that method was meta-trained with, then ``options``.

    Args:
        mixing: :meth:`Pools.mixing`, where the base classes are at hand.

    Raises:
        UnknownName: for an unknown method, or an option that it does not have.
        ValueError: for one with a trained module that this encoder lacks, or that needs the base classes.
        CheckpointError: for one that compares modalities, which this encoder's fusion mixes.
    """
    if name not in METHODS:
        raise UnknownName("method", name, METHODS)
    method = METHODS[name]
    known = {f.name: f.default for f in fields(method)}
    for option in options:
        if option == "parts" and option not in known:
            raise ValueError(f"{name} does not choose what it adapts: leave out parts={options[option]!r}")
        if option not in known:
            raise UnknownName(f"option of {name}", option, known)
    # another method's logit_scale, say, means another thing
    own = prepared.facts["training"]["options"].get("algorithm", "prototypical") == name
    arguments = {k: v for k, v in prepared.facts["head"].items() if own and k in known} | options
    if "module" in known:
        head = prepared.encoder.config.get("head") or {}
        if head.get("kind") != name:
            raise ValueError(f"this encoder has no head for {name!r}: meta-train it with algorithm={name!r}")
        arguments["module"] = prepared.encoder.head
    if "blocks" in known and (fusion := prepared.encoder.fusion) is not None:
        if fusion.block_shares is None:
            raise CheckpointError(
                f"{name} compares the modalities that a product has, and this encoder's fusion "
                f"{prepared.encoder.config['fusion']['kind']!r} does not leave them apart: choose attention "
                "or unit_attention"
            )
        arguments.setdefault("blocks", fusion.block_shares)
    if "mixing" in known:
        if mixing is None:
            raise ValueError(f"{name} is fitted to the base classes of a catalog, which are not at hand: give `mixing`")
        fitted = {
            f: arguments.get(f, getattr(method, f)) for f in ("texts", "logit_scale", "normalise", "n_iterations")
        }
        arguments["mixing"], arguments["class_embeddings"] = mixing(**fitted)
    if "encoder" in known:
        arguments["encoder"] = prepared.encoder
    if "transform" in known and arguments.get("transform", known["transform"]) == "CL2N":
        arguments.setdefault("center", center())
    if "precision" in known:
        arguments.setdefault("precision", prepared.facts["precision"])
    return method(**arguments)


def hyperparameters(method: Any) -> dict[str, Any]:
    """The plain fields of a method, as they stand in its record; ``parts`` stands there as ``adapt``, the center, which
    follows from encoder and catalog, not at all."""
    values = {f.name: getattr(method, f.name) for f in fields(method) if f.name not in ("parts", "center")}
    return {k: v for k, v in values.items() if v is None or isinstance(v, (bool, int, float, str, list, tuple))}
