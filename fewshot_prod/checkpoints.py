"""Encoders and training states on disk: safetensors for weights, JSON for configuration, never half written."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from contextlib import suppress
from difflib import get_close_matches
from functools import partial
from itertools import count
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fewshot_prod.encoders.product import ProductEncoder, build_encoder
from fewshot_prod.storage import write_whole

STATE_VERSION = 2  # of training states; raised when one of before cannot be gone on from
# Arguments of a training that its result does not depend on, or that count by their fingerprint
NO_SETTINGS = ("inputs", "category_ids", "groups", "run_dir", "resume", "fabric", "report")


class CheckpointError(ValueError):
    """A checkpoint folder is missing, incomplete, or does not fit what it is loaded for."""


def state_hash(state: dict[str, Tensor]) -> str:
    """16 hex digits over the names, shapes and bytes of a state dict."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def encoder_hash(encoder: ProductEncoder) -> str:
    """16 hex digits over the encoder's configuration and weights; it stands in every record."""
    config = json.dumps(encoder.config, sort_keys=True)
    return hashlib.sha256((config + state_hash(encoder.state_dict())).encode()).hexdigest()[:16]


def replace_folder(folder: Path, write: Any) -> None:
    """Write a folder's files by ``write(temporary_folder)``, then put it in ``folder``'s place by renaming.

    A process that is killed between moving the old folder aside and renaming the new one leaves none.
    """
    folder = Path(folder).resolve()  # a link stays, and what it points to is replaced
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    fresh, old = aside / "new", aside / "old0"
    fresh.mkdir()
    try:
        write(fresh)
        for attempt in count():
            old = aside / f"old{attempt}"
            with suppress(FileNotFoundError):
                os.replace(folder, old)
            try:
                os.replace(fresh, folder)
                return
            except OSError as error:  # another process has put its own there meanwhile
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
    except BaseException:
        with suppress(OSError):  # of another process, which has put its own there meanwhile
            if old.exists() and not folder.exists():  # stopped between the two
                os.replace(old, folder)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def save_checkpoint(
    folder: Path, encoder: ProductEncoder, facts: dict[str, Any] | None = None, *, half: bool = False
) -> None:
    """Write ``weights.safetensors`` and ``config.json`` (the encoder's configuration and ``facts`` on its training).

    Args:
        half: store floating-point weights as float16, for checkpoints that are shipped.
    """
    state = {
        name: (t.half() if half and t.is_floating_point() else t).detach().cpu().contiguous()
        for name, t in encoder.state_dict().items()
    }
    config = {"encoder": encoder.config, "facts": facts or {}}

    def write(fresh: Path) -> None:
        save_file(state, fresh / "weights.safetensors")
        (fresh / "config.json").write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    replace_folder(folder, write)


def load_checkpoint(folder: Path) -> tuple[ProductEncoder, dict[str, Any]]:
    """The encoder in ``folder``, in eval mode and float32, and the facts stored with it.

    Raises:
        CheckpointError: if a file is missing or the weights do not fit the configuration.
    """
    folder = Path(folder)
    for name in ("config.json", "weights.safetensors"):
        if not (folder / name).is_file():
            near = _nearest_checkpoint(folder)
            hint = f"did you mean {near}?" if near else "give the folder that training wrote"
            raise CheckpointError(f"{folder} is no checkpoint: it has no {name}; {hint}")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        encoder = build_encoder(config["encoder"])
        encoder.load_state_dict(load_file(folder / "weights.safetensors"))
        facts = config["facts"]
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else error
        raise CheckpointError(f"checkpoint {folder} cannot be read: {why}") from error
    return encoder.eval(), facts


def _nearest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint inside ``folder``, or where it would be if the first part of its path that is not there were."""
    there = folder
    while not there.is_dir():
        there = there.parent
    meant = [folder]
    if there != folder:
        mistyped, *rest = folder.relative_to(there).parts
        beside = sorted(path.name for path in there.iterdir() if path.is_dir())
        meant += [there.joinpath(name, *rest) for name in get_close_matches(mistyped, beside)]
    found = [path for one in meant for path in (one, one / "encoder")]
    return next((p for p in found if (p / "config.json").is_file() and (p / "weights.safetensors").is_file()), None)


def run_settings(arguments: dict[str, Any], *columns: np.ndarray, precision: str) -> dict[str, Any]:
    """Everything that makes two trainings the same run.

    Args:
        arguments: all of a training, by name; whether there is a ``validation`` counts, not what is in it, and of the
            ``encoder`` that training starts from its configuration, not its weights.
        columns: what is trained on beside ``inputs``, see :meth:`ProductInputs.fingerprint`.
        precision: in which it is trained.
    """
    encoder, inputs, validation = (arguments[name] for name in ("encoder", "inputs", "validation"))
    settings = {name: value for name, value in arguments.items() if name not in NO_SETTINGS}
    settings |= {"encoder": encoder.config, "validation": validation is not None, "precision": precision}
    return settings | {"products": len(inputs), "data": inputs.fingerprint(*columns)}


class TrainingState:
    """What a training loop needs to go on after kill -9: named modules, one optimiser, and JSON-able progress.

    Everything random in a loop is drawn from generators seeded by (seed, step), so no generator state is kept.
    The file is read with ``weights_only=True``: tensors and plain containers, no code.

    Args:
        path: the state file.
        settings: see :func:`run_settings`; a state with other ones is refused.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self.settings = Path(path), json.loads(json.dumps(settings))

    def save(self, modules: dict[str, nn.Module], optimiser: torch.optim.Optimizer, progress: dict[str, Any]) -> None:
        state = {
            "version": STATE_VERSION,
            "settings": self.settings,
            "modules": {name: module.state_dict() for name, module in modules.items()},
            "optimiser": optimiser.state_dict(),
            "progress": progress,
        }
        write_whole(self.path, partial(torch.save, state))

    def load(self, modules: dict[str, nn.Module], optimiser: torch.optim.Optimizer) -> dict[str, Any] | None:
        """Restore ``modules`` and ``optimiser`` and return the progress; None if there is no state yet, or one of an
        earlier version.

        Raises:
            CheckpointError: if the state cannot be read, or belongs to a run with other settings.
        """
        if not self.path.is_file():
            return None
        try:
            state = torch.load(self.path, weights_only=True, map_location="cpu")
        except (RuntimeError, EOFError, UnpicklingError) as error:
            raise CheckpointError(f"{self.path} is damaged; delete it to start anew") from error
        if state.get("version") != STATE_VERSION:
            return None
        if state["settings"] != self.settings:
            changed = sorted(
                k
                for k in self.settings.keys() | state["settings"].keys()
                if self.settings.get(k) != state["settings"].get(k)
            )
            raise CheckpointError(
                f"{self.path} was written by a run with other settings ({', '.join(changed)}); "
                "use the same settings, or another run folder, or start anew with resume off"
            )
        for name, module in modules.items():
            module.load_state_dict(state["modules"][name])
        optimiser.load_state_dict(state["optimiser"])
        return state["progress"]
