"""Train one encoder by its recipe; the tables do the same for every encoder that they lack.

Command: python experiments/train_encoder.py --catalog fashion --recipe resnet12 --seed 0

Resumes: stopped at any moment, the same command goes on after the last finished epoch

Writes: runs/encoders/<catalog>/<split>/<recipe>/seed<n>/encoder/: weights.safetensors and config.json
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from fewshot_prod.arguments import CatalogArgs, Data, run_script


@dataclass(frozen=True)
class Args:
    """Pretrain or meta-train an encoder on the base classes, chosen on the validation classes."""

    recipe: str = "conv4"
    """A key of fewshot_prod.recipes.RECIPES."""
    data: Data = field(default_factory=CatalogArgs)
    """Which catalog and split."""
    seed: int = 0
    """Training seed."""
    runs: Path = Path("runs/encoders")
    """Where encoders are kept."""
    tensorboard: Path | None = None
    """Also write the history there as TensorBoard events, once training is done (needs the package tensorboard)."""
    smoke: bool = False
    """One epoch on a few products, to see that it works."""


def main(args: Args) -> int:
    """Run it; see the top of this file."""
    from fewshot_prod.tensorboard import log_history, summary_writer

    if args.tensorboard:
        summary_writer()  # a missing package is told now, not after the training
    from fewshot_prod.prepare import prepare_encoder
    from fewshot_prod.recipes import SMOKE

    catalog, split = args.data.load()
    runs, overrides = args.runs, None
    if args.smoke:
        catalog, runs, overrides = catalog.take_groups(12), Path("runs/smoke"), SMOKE
    facts = prepare_encoder(args.recipe, catalog, split, args.seed, runs, overrides).facts
    if args.tensorboard:
        log_history(facts["history"], args.tensorboard / catalog.name / split.name / args.recipe / f"seed{args.seed}")
    scores = [row["score"] for row in facts["history"] if "score" in row]
    validated = f"validation {100 * max(scores):.1f} %" if scores else "not validated: too few validation categories"
    if facts["stage"] in ("none", "halfway"):
        how = {"none": "taken as it is", "halfway": "the mean of two encoders' weights"}[facts["stage"]]
        validated = f"{how}: not trained, so not validated"
    print(f"{args.recipe}, seed {args.seed}: {validated}, {facts['train_seconds'] / 60:.1f} minutes")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main, Args, __doc__))
