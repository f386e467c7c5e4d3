"""Model-agnostic meta-learning: a few gradient steps from weights that were trained to be good starts for them.

Finn, Abbeel, Levine 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks" (arXiv 1703.03400),
algorithm 2. Inductive, unless ``norm="batch"``.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import vmap

from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.inputs import ProductInputs
from fewshot_prod.methods.inner_loop import Adapted, Learner, adapt
from fewshot_prod.methods.limits import check_options
from fewshot_prod.methods.normalisation import NORMS, other_layer_norm
from fewshot_prod.methods.parts import check_parts

ENGINES = ("torch.func", "learn2learn")
HEADS = ("zeros", "prototypes")
VECTORISED_EPISODES = 8  # at once by vmap, which bounds its memory


@dataclass(frozen=True)
class MAML:
    """Adapt the whole encoder and a fresh head to each episode by ``n_adaptation_steps`` steps on its support.

    Args:
        encoder: meta-trained by :func:`fewshot_prod.metatrain.metatrain`; never changed here. It has ``feature_dim``.
        inner_lr: step size, of encoder and head alike.
        n_adaptation_steps: may differ from training's.
        first_order: how meta-training differentiated; the adaptation itself is the same.
        engine: "torch.func", or "learn2learn" (its MAML.clone and adapt).
        norm: "frozen" (running statistics), "batch" (statistics of the support, then of all queries: transductive),
            "support" (statistics of the support, for the queries too) or "group".
        head: "zeros" or "prototypes" (see :class:`ProtoMAML`). First-order training from "zeros" has no derivative of
            how the head follows the features, and lowers accuracy where "prototypes" raises it; "prototypes" wants a
            smaller ``inner_lr`` (0.01 with ``normalise=True, logit_scale=10``).
        normalise: divide features by their Euclidean norm before the head.
        logit_scale: multiplies the head's logits; the head then learns ``logit_scale ** 2`` times as fast as it
            would alone.
        precision: "32-true" or "bf16-mixed".
        parts: what the steps change: "image", "title", "attributes", "fusion", "head" or some joined by "+"; None: all.
            All of the encoder is meta-trained in any case. Not for learn2learn.
        vectorised: adapt the episodes at once by vmap; None does so on GPUs, where it pays. Not for learn2learn, nor
            for title encoders of Hugging Face Transformers, whose episodes are always adapted one by one.

    Raises:
        ValueError: for an unknown engine, norm or head, or parts that cannot be adapted alone.
        ImportError: for the learn2learn engine without learn2learn.

    Differs from the paper: the head is not meta-learned slot by slot, so that training and use may have different
    numbers of ways, and the order of the classes does not matter. Ye & Chao 2022 ("How to train your MAML to excel
    in few-shot classification") meta-learn one row that all classes start from; softmax cancels such a row, and its
    gradient with it, so that "zeros" is the same method with nothing to store (Kao et al. 2022 call it the zeroing
    trick). Batch statistics, which the paper's code uses, are the option ``norm="batch"``.
    """

    encoder: nn.Module
    inner_lr: float = 0.05
    n_adaptation_steps: int = 5
    first_order: bool = False
    engine: str = "torch.func"
    norm: str = "frozen"
    head: str = "zeros"
    normalise: bool = False
    logit_scale: float = 1.0
    precision: str = "32-true"
    vectorised: bool | None = None
    parts: str | None = None

    needs: ClassVar[str] = "inputs"
    engines: ClassVar[tuple[str, ...]] = ENGINES
    heads: ClassVar[tuple[str, ...]] = HEADS
    partial: ClassVar[bool] = True  # whether ``parts`` may be given

    def __post_init__(self) -> None:
        check_options(self)
        for name, known in (("engine", self.engines), ("norm", NORMS), ("head", self.heads)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r} is unknown; choose one of {', '.join(known)}")
        if self.parts is not None:
            if not self.partial or self.engine == "learn2learn":
                who = type(self).__name__ if not self.partial else "the engine learn2learn"
                raise ValueError(f"{who} does not choose what it adapts: leave out parts={self.parts!r}")
            check_parts(self.parts)
            if self.head == "zeros" and "head" not in self.parts.split("+"):
                raise ValueError(
                    f"parts={self.parts!r} would not move: a head of zeros passes no gradient on; add '+head', or take "
                    "head='prototypes', as proto_maml does"
                )
        if self.engine == "learn2learn":
            import fewshot_prod.methods.maml_learn2learn  # noqa: F401  so that a missing package is told at once

    @property
    def transductive(self) -> bool:
        """Whether the queries of an episode influence each other's logits (read it from an instance)."""
        return self.norm == "batch"

    def learner(self, encoder: nn.Module, n_way: int, *, vectorised: bool = False) -> Learner:
        """``encoder`` with a head of ``n_way`` classes, under this method's settings."""
        return Learner(
            encoder,
            n_way,
            norm=self.norm,
            head=self.head,
            normalise=self.normalise,
            logit_scale=self.logit_scale,
            precision=self.precision,
            vectorised=vectorised,
        )

    def adapt(self, learner: Learner, support: ProductInputs, labels: Tensor, **options: bool) -> Adapted:
        """Adapt to one episode by the engine chosen; see :func:`adapt`."""
        settings = {"inner_lr": self.inner_lr, "n_steps": self.n_adaptation_steps, "first_order": self.first_order}
        if self.engine == "learn2learn":
            from fewshot_prod.methods.maml_learn2learn import adapt as adapt_by_learn2learn

            return adapt_by_learn2learn(learner, support, labels, **settings)
        return adapt(learner, support, labels, **settings, parts=self.parts, **options)

    def vectorises(self, device: torch.device) -> bool:
        """Whether episodes are adapted at once on ``device``."""
        at_once = device.type == "cuda" if self.vectorised is None else self.vectorised
        able = all(getattr(part, "vectorises", not other_layer_norm(part)) for part in self.encoder.modules())
        return at_once and able and self.engine == "torch.func"

    def query_logits(self, learner: Learner, support: ProductInputs, labels: Tensor, query: ProductInputs) -> Tensor:
        """Logits (E, Q, n_way) of E episodes at once, differentiable in the learner's encoder.

        Args:
            support, query: their tensors have two leading dimensions, (E, S, ...) and (E, Q, ...).
            labels: int64 (E, S).
        """

        def one_episode(support: dict[str, Tensor], labels: Tensor, query: dict[str, Tensor]) -> Tensor:
            return self.adapt(learner, ProductInputs(**support), labels, vectorised=True)(ProductInputs(**query))

        present = ({k: v for k, v in vars(inputs).items() if v is not None} for inputs in (support, query))
        return vmap(one_episode)(next(present), labels, next(present))

    def __call__(self, pool: ProductInputs, episodes: EpisodeBatch) -> Tensor:
        """Logits, float32 (E, Q, n_way) on the CPU; 0 for padded queries."""
        # adaptation needs gradients, whatever mode the caller is in
        with torch.inference_mode(False), torch.enable_grad():
            encoder = copy.deepcopy(self.encoder).requires_grad_(True)
            device = next(encoder.parameters()).device
            at_once = self.vectorises(device) and episodes.support_mask is None and episodes.query_mask is None
            learner = self.learner(encoder, episodes.n_way, vectorised=at_once)
            method = replace(self, first_order=True)  # nobody differentiates through an evaluation
            if at_once:
                parts = (
                    (pool[part.support].to(device), part.support_labels.to(device), pool[part.query].to(device))
                    for part in episodes.split(VECTORISED_EPISODES)
                )
                return torch.cat([method.query_logits(learner, *part).detach().float().cpu() for part in parts])
            logits = torch.zeros(*episodes.query.shape, episodes.n_way)
            everything = slice(None)
            for i in range(len(episodes)):
                s = everything if episodes.support_mask is None else episodes.support_mask[i]
                q = everything if episodes.query_mask is None else episodes.query_mask[i]
                support, query = pool[episodes.support[i, s]].to(device), pool[episodes.query[i, q]].to(device)
                adapted = method.adapt(learner, support, episodes.support_labels[i, s].to(device))
                with torch.no_grad():
                    logits[i, q] = adapted(query).float().cpu()
            return logits


@dataclass(frozen=True)
class FirstOrderMAML(MAML):
    """MAML whose meta-training leaves out second derivatives (section 5.2 of the paper); see :class:`MAML`."""

    first_order: bool = True
