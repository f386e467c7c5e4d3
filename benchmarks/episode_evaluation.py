"""Evaluation of ProtoNet on cached features against easyfsl 1.5.0, on the same features and pre-drawn episodes.

Command:   .venv/bin/python benchmarks/episode_evaluation.py
Takes:     under a minute on 2 CPU cores
Prints:    episodes/s of all sides (medians over alternating rounds after a warm-up), then ``ratio: ...``
Expected:  a ratio of at least 20
Reading:   24 classes of 300 products with 640 features, 5-way 5-shot 15-query. Ours is ``evaluate`` over all
           episodes, easyfsl's is ``easyfsl.utils.evaluate`` over the first ones of them, with a DataLoader and its own
           collate function (easyfsl_peers.py). The ratio is to that. Below it stands what easyfsl does when it is
           handed tensors that are gathered by our indices instead, without DataLoader and collating. Nobody's time
           includes drawing. The accuracies must agree.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tyro
from side_by_side import take_turns

if TYPE_CHECKING:
    from torch import Tensor

    from fewshot_prod.episodes import EpisodeBatch


@dataclass(frozen=True)
class Args:
    """How much is evaluated."""

    n_episodes: int = 10_000
    """Episodes a round of ours."""
    n_episodes_peer: int = 500
    """Episodes a round of easyfsl, the first of the same."""
    rounds: int = 5
    """Rounds a side that are timed."""
    threads: int | None = None
    """Threads of all sides; torch's default, one a core, when left out."""
    seed: int = 0
    """Of features and episodes."""


class Gathered:
    """easyfsl's tuples, gathered when asked for."""

    def __init__(self, features: Tensor, episodes: EpisodeBatch) -> None:
        self.features, self.episodes = features, episodes

    def __len__(self) -> int:
        return len(self.episodes)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        e = self.episodes
        for support, support_labels, query, query_labels in zip(
            e.support, e.support_labels, e.query, e.query_labels, strict=True
        ):
            yield self.features[support], support_labels, self.features[query], query_labels, []


def main(args: Args) -> None:
    """Time all sides in turn and print the medians."""
    import easyfsl.utils
    import torch
    from easyfsl.methods import PrototypicalNetworks
    from easyfsl_peers import Drawn, loader, synthetic_features

    from fewshot_prod.episodes import EpisodeSampler
    from fewshot_prod.evaluation import evaluate
    from fewshot_prod.methods.prototypical import Prototypical

    if args.threads:
        torch.set_num_threads(args.threads)
    print(f"{torch.get_num_threads()} threads")
    features, categories = synthetic_features(300, 640, args.seed)
    n_shot, n_query = 5, 15
    sampler = EpisodeSampler(
        categories, torch.arange(len(categories)), n_way=5, n_shot=n_shot, n_query=n_query, seed=args.seed
    )
    started = time.perf_counter()
    episodes = sampler.sample(0, args.n_episodes)
    print(f"drawing                       {args.n_episodes / (time.perf_counter() - started):9.0f} episodes/s")

    first = episodes[: args.n_episodes_peer]
    batches, gathered = loader(features, categories, first, n_shot, n_query), Gathered(features, first)
    model = PrototypicalNetworks()

    def peer(source: Any) -> float:
        return easyfsl.utils.evaluate(model, source, device="cpu", use_tqdm=False)

    def ours() -> float:
        scores = evaluate(Prototypical(), features, Drawn(episodes), args.n_episodes)
        return float(scores.accuracy[: args.n_episodes_peer].mean())

    sides: dict[str, tuple[int, Callable[[], float]]] = {
        "fewshot_prod evaluate": (args.n_episodes, ours),
        "easyfsl evaluate, loader": (args.n_episodes_peer, lambda: peer(batches)),
        "easyfsl evaluate, gathered": (args.n_episodes_peer, lambda: peer(gathered)),
    }
    timed = take_turns({name: run for name, (_, run) in sides.items()}, args.rounds)
    accuracies = [accuracy for side in timed.values() for accuracy in side.answers]
    # a tie that rounding breaks may differ
    assert max(accuracies) - min(accuracies) < 3 / (75 * args.n_episodes_peer), accuracies

    rates = {name: n / timed[name].median for name, (n, _) in sides.items()}
    for name, rate in rates.items():
        print(f"{name:28s}  {rate:9.0f} episodes/s")
    print(f"accuracy {100 * accuracies[0]:.2f} %, on all sides")
    mine, loaded, handed = rates.values()
    print(f"to easyfsl with gathered tensors: {mine / handed:.1f}")
    print(f"ratio: {mine / loaded:.1f}")


if __name__ == "__main__":
    main(tyro.cli(Args))
