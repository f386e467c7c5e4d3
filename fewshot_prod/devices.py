"""Where and in which precision training runs: Lightning Fabric, a measured precision probe, gradient averaging."""

from __future__ import annotations

import atexit
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fewshot_prod.inputs import ProductInputs
from fewshot_prod.storage import write_whole

if TYPE_CHECKING:
    from lightning_fabric import Fabric

PRECISIONS = ("32-true", "bf16-mixed")


def launch_fabric(accelerator: str = "auto", precision: str = "32-true") -> Fabric:
    """A launched Fabric: one device, or under torchrun one device a process.

    Example:
        >>> launch_fabric("cpu").world_size
        1
    """
    from lightning_fabric import Fabric

    if "LOCAL_WORLD_SIZE" in os.environ:  # set by torchrun
        local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        fabric = Fabric(
            accelerator=accelerator, devices=local, num_nodes=world // local, strategy="ddp", precision=precision
        )
    else:
        fabric = Fabric(accelerator=accelerator, devices=1, precision=precision)
    fabric.launch()
    if fabric.world_size > 1:
        atexit.unregister(_leave_group)
        atexit.register(_leave_group)
    return fabric


def _leave_group() -> None:
    """Without it gloo's threads abort the process at exit, and torchrun calls a finished run failed."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def choose_precision(
    encoder: nn.Module,
    sample: ProductInputs,
    fabric: Fabric | None = None,
    steps: int = 3,
    run_dir: Path | None = None,
) -> str:
    """The faster of ``PRECISIONS`` for forward and backward on ``sample``, by the median of ``steps`` timed steps.

    Differences under 10 % keep float32. The encoder goes to where it will be trained, which is where both are timed;
    its parameters and running statistics are left as they were.

    Args:
        fabric: where training will run; the choice of its first process holds for all of them.
        run_dir: of the training run, where the choice is kept: timings vary, and a run that was stopped goes on in the
            precision that it began with.
    """
    fabric = fabric or launch_fabric()
    return fabric.broadcast(_kept_or_faster(encoder, sample, fabric, steps, run_dir) if fabric.is_global_zero else None)


def _kept_or_faster(encoder: nn.Module, sample: ProductInputs, fabric: Fabric, steps: int, run_dir: Path | None) -> str:
    kept = run_dir / "precision" if run_dir else None
    if kept and kept.is_file() and (known := kept.read_text(encoding="utf-8")) in PRECISIONS:
        return known
    device = fabric.device
    encoder.to(device)
    state = {k: v.clone() for k, v in encoder.state_dict().items()}
    sample = sample.to(device)
    seconds = {}
    for precision in PRECISIONS:
        times = []
        for _ in range(steps + 1):
            start = time.perf_counter()
            with autocast(device, precision):
                loss = encoder(sample).square().mean()
            loss.backward()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - start)
        seconds[precision] = sorted(times[1:])[steps // 2]  # the first step warms up
    encoder.zero_grad(set_to_none=True)
    encoder.load_state_dict(state)
    choice = "bf16-mixed" if seconds["bf16-mixed"] < 0.9 * seconds["32-true"] else "32-true"
    if kept:
        write_whole(kept, lambda file: file.write_text(choice, encoding="utf-8"))
    return choice


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which an encoder computes in ``precision``, one of ``PRECISIONS``.

    Raises:
        ValueError: for another precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r} is not one of {', '.join(PRECISIONS)}")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16-mixed")


def average_gradients(fabric: Fabric, parameters: list[Tensor]) -> None:
    """Replace every ``.grad`` by its mean over the processes of ``fabric``; nothing to do on one process.

    Training reduces by hand, since the hooks of DistributedDataParallel do not fire for ``torch.autograd.grad``
    and ``torch.func``, which MAML needs. A parameter without gradient on one process counts as zero there.
    """
    if fabric.world_size == 1:
        return
    for p in parameters:
        grad = p.grad if p.grad is not None else torch.zeros_like(p)
        p.grad = fabric.all_reduce(grad, reduce_op="mean")


@torch.no_grad()
def average_buffers(fabric: Fabric, module: nn.Module) -> None:
    """Replace floating-point buffers, such as running statistics, by their mean over the processes of ``fabric``.

    What is the same everywhere stays so to the last bit. Nothing to do on one process.
    """
    if fabric.world_size == 1:
        return
    for buffer in module.buffers():
        if buffer.is_floating_point():
            torch.distributed.broadcast(first := buffer.clone(), 0)
            buffer.copy_(first + fabric.all_reduce(buffer - first, reduce_op="mean"))
