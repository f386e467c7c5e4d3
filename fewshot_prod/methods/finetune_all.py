"""Fine-tuning encoder and head together on the support."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot_prod.devices import autocast
from fewshot_prod.encoders.unit_length import unit_length
from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.inputs import ProductInputs
from fewshot_prod.methods.limits import check_options
from fewshot_prod.methods.parts import of_parts
from fewshot_prod.methods.transforms import Transform, transform_features


@dataclass(frozen=True)
class FinetuneAll:
    r"""G. S. Dhillon, P. Chaudhari, A. Ravichandran, S. Soatto, "A Baseline for Few-Shot Image Classification", 2020,
    arXiv:1909.02729, without its transductive term.

    A cosine head that starts from the class means of the support (section 3.1) is trained on the support together
    with the encoder f, by Adam:

    .. math::
        \mathrm{logit}_k(x) = s \cos(f_\theta(x), w_k), \qquad
        \min_{\theta, w} -\frac{1}{|S|} \sum_{(x, y) \in S} \log \mathrm{softmax}_y(\mathrm{logit}(x)), \qquad
        w_k = \text{mean of class } k\text{'s } f_\theta(x) \text{ at the start}.

    Each episode starts from the same encoder, which stays as it is: a copy is trained.
    Normalisation layers use their running statistics and dropout is off, so that queries do not influence each other.
    Inductive.

    Args:
        encoder: products to features (B, D); it has ``feature_dim``.
        n_adaptation_steps: steps of Adam.
        lr, head_lr: step sizes of encoder and head.
        logit_scale: multiplies the cosines.
        batch_size: support items a step, in an order shuffled by ``seed``, round and round; and queries at a time.
        augmentation: "none", or "flip": mirror each image with probability 1/2.
        seed: of batches and flips; the same in every episode.
        transform, center: applied to the encoder's features, see :func:`transform_features`.
        precision: "32-true" or "bf16-mixed".
        parts: what is trained: "image", "title", "attributes", "fusion", "head" or several joined by "+";
            None: everything.

    Raises:
        ValueError: if the augmentation or transform is unknown, or CL2N has no center.

    Differs from the paper: features instead of the pretrained classifier's logits are fine-tuned, plain Adam, no
    regularisation other than early stopping, and all hyperparameters.
    """

    encoder: nn.Module
    n_adaptation_steps: int = 15
    lr: float = 1e-4
    head_lr: float = 1e-3
    logit_scale: float = 10.0
    batch_size: int = 64
    augmentation: Literal["none", "flip"] = "none"
    seed: int = 0
    transform: Transform = "CL2N"
    center: Tensor | None = None
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    parts: str | None = None

    needs: ClassVar[str] = "inputs"
    transductive: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_options(self)
        if self.augmentation not in ("none", "flip"):
            raise ValueError(f"augmentation is {self.augmentation!r}: give 'none' or 'flip'")

    def __call__(self, pool: ProductInputs, episodes: EpisodeBatch) -> Tensor:
        """Logits, float32 (E, Q, n_way) on the CPU, from ``pool``; 0 for padded queries."""
        logits = torch.zeros(*episodes.query.shape, episodes.n_way)
        for i in range(len(episodes)):
            s, q = (slice(None) if m is None else m[i] for m in (episodes.support_mask, episodes.query_mask))
            rows, order = episodes.support[i, s].sort()  # batches must not depend on the order of the support
            adapted = self.adapt(pool[rows], episodes.support_labels[i, s][order], episodes.n_way)
            query = episodes.query[i, q]
            with torch.no_grad():
                logits[i, q] = torch.cat([adapted(pool[rows]).cpu() for rows in query.split(self.batch_size)])
        return logits

    def adapt(self, support: ProductInputs, labels: Tensor, n_way: int) -> CosineClassifier:
        """The classifier of one episode, trained on its ``support`` and ``labels``, int64 (S,)."""
        encoder = copy.deepcopy(self.encoder).eval().requires_grad_(True)
        for module in encoder.modules():
            if isinstance(module, nn.RNNBase):  # cuDNN has no backward for these in eval mode
                module.dropout = 0.0
                module.train()
        labels = labels.to(next(encoder.parameters()).device)
        classifier = CosineClassifier(self, encoder, support, F.one_hot(labels, n_way).float())
        named = {f"encoder.{name}": p for name, p in encoder.named_parameters()} | {"head.weight": classifier.weight}
        trained = of_parts(named, self.parts)
        for name, p in named.items():
            p.requires_grad_(name in trained)
        head = {"params": [p for name, p in trained.items() if name == "head.weight"], "lr": self.head_lr}
        rest = {"params": [p for name, p in trained.items() if name != "head.weight"], "lr": self.lr}
        optimiser = torch.optim.Adam([rest, head])
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.empty(0, dtype=torch.int64)
        with torch.enable_grad():
            for _ in range(self.n_adaptation_steps):
                if len(order) < min(self.batch_size, len(labels)):
                    order = torch.cat([order, torch.randperm(len(labels), generator=generator)])
                batch, order = order[: self.batch_size], order[self.batch_size :]
                loss = F.cross_entropy(classifier(self._augment(support[batch], generator)), labels[batch])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        return classifier

    def _augment(self, inputs: ProductInputs, generator: torch.Generator) -> ProductInputs:
        if self.augmentation == "none" or inputs.images is None:
            return inputs
        mirrored = torch.rand(len(inputs), generator=generator) < 0.5
        images = torch.where(mirrored[:, None, None, None], inputs.images.flip(2), inputs.images)
        return replace(inputs, images=images)


class CosineClassifier(nn.Module):
    """``logit_scale * cos(feature, weight)``, one weight (D,) a class; starts from the class means of a support.

    Args:
        member: float32 (S, n_way), one-hot labels of the support.
    """

    def __init__(self, method: FinetuneAll, encoder: nn.Module, support: ProductInputs, member: Tensor) -> None:
        super().__init__()
        self.method, self.encoder = method, encoder
        with torch.no_grad():
            batches = torch.arange(len(member)).split(method.batch_size)
            features = torch.cat([self.features(support[rows]) for rows in batches])
        self.weight = nn.Parameter(member.T @ features / member.sum(0)[:, None])

    def features(self, inputs: ProductInputs) -> Tensor:
        """Transformed features, float32 (B, D)."""
        device = next(self.encoder.parameters()).device
        with autocast(device, self.method.precision):
            features = self.encoder(inputs.to(device))
        return transform_features(features.float(), self.method.transform, self.method.center)

    def forward(self, inputs: ProductInputs) -> Tensor:
        """Logits, float32 (B, n_way)."""
        features = unit_length(self.features(inputs))  # those of "UN" have any length
        return self.method.logit_scale * F.linear(features, F.normalize(self.weight, dim=1))
