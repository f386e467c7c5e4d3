"""The inner loop of MAML: gradient steps on an episode's support that can be differentiated themselves.

Finn, Abbeel, Levine 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks" (arXiv 1703.03400).
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, one_hot

from fewshot_prod.devices import autocast
from fewshot_prod.encoders.fusion.unit_attention import Centre
from fewshot_prod.encoders.title import TitleEncoder
from fewshot_prod.encoders.unit_length import unit_length
from fewshot_prod.inputs import ProductInputs
from fewshot_prod.methods.normalisation import NormOfFirstRows, PlainLayerNorm, batch_norms, fold_norms
from fewshot_prod.methods.parts import of_parts

Parameters = dict[str, Tensor]
Adapted = Callable[[ProductInputs], Tensor]


def inner_loop(
    loss_of: Callable[[Parameters], Tensor],
    parameters: Parameters,
    *,
    inner_lr: float | Parameters,
    n_steps: int,
    first_order: bool,
    vectorised: bool = False,
) -> Parameters:
    r"""Gradient steps :math:`\theta_{k+1} = \theta_k - \alpha \nabla_{\theta_k} L(\theta_k)` (algorithm 2, line 6).

    The result is differentiable in ``parameters``: through the gradients too (second order), or with the gradients
    taken as constants (first order, section 5.2 of the paper).

    Args:
        loss_of: the support loss of given parameters.
        parameters: tensors that require gradients.
        inner_lr: one rate, or one for each parameter in a shape that broadcasts to its own.
        vectorised: run under :func:`torch.func.vmap`, where autograd's own ``grad`` cannot be called.

    Example:
        >>> start = {"w": torch.tensor(1.0, requires_grad=True)}
        >>> inner_loop(lambda p: p["w"] ** 2, start, inner_lr=0.1, n_steps=1, first_order=False)["w"].item()
        0.800000011920929
    """
    # new names for the same values: a start computed from another parameter counts as independent of it
    parameters = {name: p.view_as(p) for name, p in parameters.items()}
    rates = inner_lr if isinstance(inner_lr, dict) else dict.fromkeys(parameters, inner_lr)
    for _ in range(n_steps):
        if vectorised:
            at = {name: p.detach() for name, p in parameters.items()} if first_order else parameters
            gradients = torch.func.grad(loss_of)(at)
        else:
            values = torch.autograd.grad(
                loss_of(parameters), list(parameters.values()), create_graph=not first_order, materialize_grads=True
            )
            gradients = dict(zip(parameters, values, strict=True))
        parameters = {name: p - rates[name] * gradients[name] for name, p in parameters.items()}
    return parameters


class Learner(nn.Module):
    """The encoder and a linear head on its features as one module: what the inner loop adapts.

    Its parameters are the encoder's own, so that meta-gradients land there; everything else is a copy in eval
    mode, in which batch normalisation uses what ``norm`` says and nothing ever updates a running statistic.

    Args:
        norm: "frozen": running statistics; "batch": those of the batch at hand (support, then queries); "support":
            those of the support, for the queries too; "group": group normalisation, which the encoder must have been
            built with.
        head, normalise, logit_scale, precision: see :class:`MAML`.
        vectorised: for use under vmap.

    Raises:
        ValueError: for ``norm="group"`` with an encoder that has batch normalisation, and for "batch" and "support"
            with one whose fusion centres by running means.
    """

    def __init__(
        self,
        encoder: nn.Module,
        n_way: int,
        *,
        norm: str = "frozen",
        head: str = "zeros",
        normalise: bool = False,
        logit_scale: float = 1.0,
        precision: str = "32-true",
        vectorised: bool = False,
    ) -> None:
        super().__init__()
        memo = {id(p): p for p in encoder.parameters()}  # shares the parameters, copies the buffers
        self.encoder = copy.deepcopy(encoder, memo).eval()
        if hasattr(self.encoder, "inner_rates"):
            del self.encoder.inner_rates  # learned beside the weights, not adapted
        layers = batch_norms(self.encoder, norm)
        if norm in ("batch", "support") and any(isinstance(m, Centre) for m in layers):
            raise ValueError(f"norm={norm!r} takes away the means that this encoder's fusion centres by: use 'frozen'")
        if norm == "support" or (norm == "batch" and vectorised):
            for path, m in list(self.encoder.named_modules()):
                if m in layers:
                    self.encoder.set_submodule(path, NormOfFirstRows(m))
        elif norm == "batch":
            for m in layers:
                m.track_running_stats, m.running_mean, m.running_var = False, None, None
        elif norm == "frozen":
            fold_norms(self.encoder)
        example = next(encoder.parameters())
        for m in self.encoder.modules():
            # packed sequences and cuDNN's recurrences cannot be differentiated twice; on the CPU eager ones can
            if isinstance(m, TitleEncoder) and (vectorised or example.device.type != "cpu"):
                m.recurrence = "masked"
        if vectorised:
            for path, m in list(self.encoder.named_modules()):
                if type(m) is nn.LayerNorm:
                    self.encoder.set_submodule(path, PlainLayerNorm.sharing(m))
        self.head = nn.utils.skip_init(
            nn.Linear, encoder.feature_dim, n_way, device=example.device, dtype=example.dtype
        )
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.start, self.normalise, self.logit_scale, self.precision = head, normalise, logit_scale, precision
        self.norm = norm

    def features(self, inputs: ProductInputs, support: ProductInputs | None = None) -> Tensor:
        """(B, D), in the parameters' own precision.

        Args:
            support: the episode's, which queries are normalised by under ``norm="support"``.
        """
        device = self.head.weight.device
        n_support = len(support) if self.norm == "support" and support is not None else None
        for m in self.encoder.modules():
            if isinstance(m, NormOfFirstRows):
                m.n_rows = n_support
        with autocast(device, self.precision):
            features = self.encoder(inputs) if n_support is None else self.encoder(support + inputs)[n_support:]
        features = features.to(self.head.weight.dtype)
        return unit_length(features) if self.normalise else features

    def forward(self, inputs: ProductInputs, support: ProductInputs | None = None) -> Tensor:
        """Logits (B, n_way)."""
        return self.logit_scale * self.head(self.features(inputs, support))

    def initial_head(self, support: ProductInputs, labels: Tensor) -> dict[str, Tensor]:
        """The weight (n_way, D) and bias (n_way,) from which an episode's head starts."""
        if self.start == "zeros":
            return {"weight": self.head.weight, "bias": self.head.bias}
        membership = one_hot(labels, self.head.out_features).to(self.head.weight.dtype).T  # (n_way, S)
        prototypes = membership @ self.features(support) / membership.sum(1, keepdim=True)
        # -|f - p|^2 as a linear layer, without its |f|^2, which softmax cancels
        return {"weight": 2 * prototypes, "bias": -prototypes.square().sum(1)}


def adapt(
    learner: Learner,
    support: ProductInputs,
    labels: Tensor,
    *,
    inner_lr: float | Parameters,
    n_steps: int,
    first_order: bool,
    parts: str | None = None,
    vectorised: bool = False,
) -> Adapted:
    """The adapted classifier of one episode: a function from products to logits, differentiable in the encoder.

    Args:
        labels: int64 (S,).
        parts: which parameters take steps, see :func:`of_parts`; the others stay where the episode starts.
    """
    parameters = dict(learner.named_parameters())
    parameters |= {f"head.{name}": value for name, value in learner.initial_head(support, labels).items()}
    moving = of_parts(parameters, parts)
    # first order takes the gradients as constants, in the parameters that stay too
    fixed = {name: p.detach() if first_order else p for name, p in parameters.items() if name not in moving}
    adapted = parameters | inner_loop(
        lambda p: cross_entropy(functional_call(learner, fixed | p, (support,)), labels),
        moving,
        inner_lr=inner_lr,
        n_steps=n_steps,
        first_order=first_order,
        vectorised=vectorised,
    )
    return lambda inputs: functional_call(learner, adapted, (inputs, support))
