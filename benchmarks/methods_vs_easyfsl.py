"""Every method that easyfsl 1.5.0 has too, on the same cached features and pre-drawn episodes.

Command:   .venv/bin/python benchmarks/methods_vs_easyfsl.py
Takes:     two minutes on 2 CPU cores
Prints:    a line a method: episodes/s of both sides (medians over alternating rounds after a warm-up), their ratio and
           accuracies; then ``ratio: ...``, the worst of nearest centroid, ProtoNet and Matching
Expected:  at least 20 for those three; at least 10 for the others
Reading:   24 classes of 300 products with 640 features, not negative as after a ReLU; 5-way 5-shot 15-query. Ours is
           ``evaluate``, easyfsl's is ``easyfsl.utils.evaluate`` with a DataLoader and its own collate function, over
           the first of the same episodes. Nobody's time includes drawing. Hyperparameters and numbers of iterations
           are easyfsl's defaults on both sides; but LaplacianShot stops early there, and PT-MAP's plan is found by
           Sinkhorn's iterations there and Newton's here. Where easyfsl departs from a paper, it is put right, or given
           what makes it right: TIM and fine-tuning get the paper's logits, BD-CSPN and LaplacianShot classify the
           shifted queries, Matching is without context embeddings, PT-MAP reads features that are transformed before
           (easyfsl_peers.py). Hence accuracies must be equal, but for 1 query in 500.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import tyro
from side_by_side import take_turns

if TYPE_CHECKING:
    from torch import Tensor

HEADLINE = ("nearest_centroid", "prototypical", "matching")


@dataclass(frozen=True)
class Args:
    """How much is evaluated."""

    rounds: int = 5
    """Rounds a side that are timed."""
    methods: tuple[str, ...] = ()
    """Which methods; all when left out."""
    threads: int | None = None
    """Threads of both sides; torch's default, one a core, when left out."""
    seed: int = 0
    """Of features and episodes."""
    smoke: bool = False
    """A few episodes of small features: seconds, and ratios that mean nothing."""


@dataclass(frozen=True)
class Pair:
    """A method on both sides, and how many episodes each scores a round."""

    ours: dict[str, Any]
    theirs: Any
    pool: Tensor
    n_ours: int
    n_theirs: int


def pairs(features: Tensor) -> dict[str, Pair]:
    """Both sides of each method, with equal hyperparameters."""
    import easyfsl.methods as peer
    import torch.nn.functional as F
    from easyfsl_peers import (
        LinearFinetuning,
        MatchingWithoutContext,
        PaperTIM,
        ShiftedBDCSPN,
        ShiftedLaplacianShot,
    )

    center = features.mean(0)
    unit = F.normalize(features)
    adam = {"fine_tuning_steps": 50, "fine_tuning_lr": 1e-4}
    return {
        "nearest_centroid": Pair(
            {"transform": "CL2N", "center": center},
            peer.PrototypicalNetworks(feature_centering=center, feature_normalization=2.0),
            features,
            10_000,
            300,
        ),
        "prototypical": Pair({}, peer.PrototypicalNetworks(), features, 10_000, 300),
        "matching": Pair(
            # it multiplies by the queries' length, where ours has a scale
            {"logit_scale": 10.0},
            MatchingWithoutContext(feature_dimension=features.shape[1]),
            10 * unit,
            10_000,
            300,
        ),
        "bd_cspn": Pair(
            {"cosine_scale": 1.0, "n_confident": None, "transform": "UN"}, ShiftedBDCSPN(), unit, 3000, 200
        ),
        "laplacian_shot": Pair({"cosine_scale": 1.0, "transform": "UN"}, ShiftedLaplacianShot(), unit, 1000, 100),
        "tim": Pair(
            {"n_adaptation_steps": 50, "logit_scale": 10.0, "support_weight": 1.0, "transform": "UN"},
            PaperTIM(**adam),
            unit,
            200,
            20,
        ),
        "transductive_finetuning": Pair(
            {"n_adaptation_steps": 25, "lr": 5e-5, "logit_scale": 1.0, "transform": "UN"},
            LinearFinetuning(fine_tuning_steps=25, fine_tuning_lr=5e-5),
            unit,
            400,
            40,
        ),
        "pt_map": Pair(
            {"n_steps": 10, "power": 1.0, "episode_centering": False},
            peer.PTMAP(power_factor=1.0),
            F.normalize(features.sqrt()),
            500,
            20,
        ),
    }


def main(args: Args) -> None:
    """Time both sides of each method in turn and print the medians."""
    import easyfsl.utils
    import torch
    from easyfsl_peers import Drawn, loader, synthetic_features

    from fewshot_prod.episodes import EpisodeSampler
    from fewshot_prod.evaluation import evaluate
    from fewshot_prod.methods import METHODS

    if args.threads:
        torch.set_num_threads(args.threads)
    print(f"{torch.get_num_threads()} threads")
    features, categories = synthetic_features(*(40, 32) if args.smoke else (300, 640), args.seed, spread=0.25)
    features = features.relu()
    n_shot, n_query = 5, 15
    sampler = EpisodeSampler(
        categories, torch.arange(len(categories)), n_way=5, n_shot=n_shot, n_query=n_query, seed=args.seed
    )
    episodes = sampler.sample(0, 30 if args.smoke else 10_000)
    ratios = {}
    for name, pair in pairs(features).items():
        if name not in METHODS or (args.methods and name not in args.methods):
            continue
        if args.smoke:
            pair = replace(pair, n_ours=30, n_theirs=3)
        method, first = METHODS[name](**pair.ours), episodes[: pair.n_theirs]
        batches = loader(pair.pool, categories, first, n_shot, n_query)

        def ours(method=method, pair=pair) -> float:
            scores = evaluate(method, pair.pool, Drawn(episodes), pair.n_ours)
            return float(scores.accuracy[: pair.n_theirs].mean())

        def theirs(pair=pair, batches=batches) -> float:
            return easyfsl.utils.evaluate(pair.theirs, batches, device="cpu", use_tqdm=False)

        timed = take_turns({"ours": ours, "theirs": theirs}, 1 if args.smoke else args.rounds)
        mine, peers = pair.n_ours / timed["ours"].median, pair.n_theirs / timed["theirs"].median
        accuracy, accuracy_peer = (side.answers[-1] for side in timed.values())
        ratios[name] = mine / peers
        print(
            f"{name:24s} {mine:9.0f} and {peers:7.1f} episodes/s, {ratios[name]:6.1f} times; "
            f"accuracy {100 * accuracy:.2f} and {100 * accuracy_peer:.2f} %",
            flush=True,
        )
        allowed = max(1 / 500, 2 / (75 * pair.n_theirs))
        assert abs(accuracy - accuracy_peer) <= allowed, f"{name}: the answers differ"
    print(f"ratio: {min(ratios[name] for name in HEADLINE if name in ratios):.1f}")


if __name__ == "__main__":
    main(tyro.cli(Args))
