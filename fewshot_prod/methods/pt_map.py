"""PT-MAP: power transform, then prototypes and a balanced assignment of the queries by turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.methods.episode_blocks import solve_in_blocks
from fewshot_prod.methods.limits import check_options
from fewshot_prod.methods.transforms import power_transform


@dataclass(frozen=True)
class PTMAP:
    """Y. Hu, V. Gripon, S. Pateux, "Leveraging the Feature Distribution in Transfer-based Few-Shot Learning", 2021,
    arXiv:2006.03806.

    Features are raised to a power and projected onto the unit sphere (equation 1). Queries are assigned to prototypes
    by the entropic transport plan of squared distances (equation 3), and prototypes move towards the mean of what is
    assigned to them (equations 6 and 7), by turns (Algorithm 1). The plan gives every class the same number of
    queries: the method assumes balanced queries, and loses much where they are not (Veilleux et al. 2021).
    Transductive.

    Args:
        n_steps: turns.
        step_size: the paper's alpha, how far prototypes move towards the new mean, 0 to 1.
        cost_scale: the paper's lambda, multiplies the squared distances.
        power: the paper's beta.
        episode_centering: subtract the support's mean from the support and the queries' from the queries, then divide
            the norms out again, as the authors' code does.

    Raises:
        ValueError: if step_size is outside 0..1, or power is not positive.

    Differs from the paper: negative features, which its encoders do not have, keep their sign under the power. The plan
    is found by Newton's method instead of Sinkhorn's, which takes thousands of iterations where classes are far apart.
    Prototypes are kept as weights of the episode's features, so that their Gram matrix gives all distances.
    """

    n_steps: int = 20
    step_size: float = 0.2
    cost_scale: float = 10.0
    power: float = 0.5
    episode_centering: bool = True

    needs: ClassVar[str] = "features"
    transductive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.step_size <= 1:
            raise ValueError(f"step_size is {self.step_size}: it must be above 0 and at most 1")
        check_options(self)

    def __call__(self, pool: Tensor, episodes: EpisodeBatch) -> Tensor:
        """Logits, float32 (E, Q, n_way), from features ``pool``, float32 (N, D)."""
        features = F.normalize(power_transform(pool, self.power), dim=1)
        return solve_in_blocks(features, episodes, self._solve)

    def _solve(self, rows: Tensor, targets: Tensor, share: Tensor) -> Tensor:
        n_support = targets.shape[2]
        if self.episode_centering:
            real = targets.sum(1, keepdim=True)
            support, query = rows[:, :n_support], rows[:, n_support:]
            support -= (real / real.sum(2, keepdim=True)) @ support
            query -= share @ query
            rows /= torch.linalg.vector_norm(rows, dim=2, keepdim=True).clamp_min(1e-12)
        gram = rows @ rows.mT
        mask = (share > 0).to(rows.dtype)  # (B, 1, Q)
        assigned = torch.cat([targets, torch.zeros_like(mask).expand(-1, targets.shape[1], -1)], 2)
        prototypes = assigned / assigned.sum(2, keepdim=True)  # (B, n_way, S + Q), weights of the rows
        potential = torch.zeros_like(prototypes[..., :1])
        for step in range(self.n_steps + 1):
            products = prototypes @ gram
            squares = (prototypes * products).sum(2, keepdim=True)
            # without the query's own square, which each query's total of 1 makes irrelevant
            cost = self.cost_scale * (squares - 2 * products[..., n_support:])
            log_plan, potential = balanced_plan(cost, mask, potential)
            if step < self.n_steps:
                assigned[..., n_support:] = log_plan.exp() * mask
                prototypes = prototypes.lerp(assigned / assigned.sum(2, keepdim=True), self.step_size)
        return log_plan


def balanced_plan(cost: Tensor, mask: Tensor, potential: Tensor) -> tuple[Tensor, Tensor]:
    """The plan exp(potential - cost), scaled so that each query has total 1 and all classes the same.

    The potentials minimise a convex function, the sum over queries of log sum exp(potential - cost), less the mean
    potential's share (the semi-dual of Cuturi 2013). Newton's steps are shortened as Sun & Tran-Dinh 2019
    ("Generalized self-concordant functions") have it, so that each lowers the function, from any start.

    Args:
        cost: float32 (B, n_way, Q).
        mask: float32 (B, 1, Q), 0 where padded.
        potential: float32 (B, n_way, 1), where to start.

    Returns:
        Logarithm of the plan, float32 (B, n_way, Q), and the potential.
    """
    wanted = mask.sum(2, keepdim=True) / cost.shape[1]  # (B, 1, 1)
    for _ in range(100):
        log_plan = (potential - cost).log_softmax(1)
        plan = log_plan.exp() * mask
        excess = plan.sum(2, keepdim=True) - wanted
        if bool((excess.abs() < 1e-5 * wanted).all()):
            break
        # The Hessian is a graph's Laplacian: from its weights alone it keeps its accuracy where they are tiny.
        coupling = (plan @ plan.mT).double().clamp_min(1e-30)
        coupling.diagonal(dim1=1, dim2=2).zero_()
        laplacian = torch.diag_embed(coupling.sum(2)) - coupling
        step = torch.zeros_like(excess)
        step[:, 1:] = torch.linalg.solve_ex(laplacian[:, 1:, 1:], excess[:, 1:].double()).result
        span = (step.amax(1, keepdim=True) - step.amin(1, keepdim=True)).clamp_min(1e-12)
        potential = potential - step * span.log1p() / span
    return log_plan, potential
