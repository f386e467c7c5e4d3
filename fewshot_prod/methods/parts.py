"""Which parts of a model an adapting method changes: image, title or attribute branch, the fusion, the head."""

from __future__ import annotations

from torch import Tensor

from fewshot_prod.names import UnknownName

PARTS = ("image", "title", "attributes", "fusion", "head")


def check_parts(parts: str) -> None:
    """Raise UnknownName for a part that no model has."""
    for part in parts.split("+"):
        if part not in PARTS:
            raise UnknownName("part to adapt", part, PARTS)


def of_parts(parameters: dict[str, Tensor], parts: str | None) -> dict[str, Tensor]:
    """Those of a model's parameters that belong to the named parts.

    Args:
        parameters: by name: "encoder.PART...." or "head....".
        parts: names of parts joined by "+", such as "title+head"; None for all of them.

    Raises:
        UnknownName: for a part that has no parameters here.

    Example:
        >>> weights = dict.fromkeys(["encoder.image.weight", "encoder.title.weight", "head.weight"])
        >>> list(of_parts(weights, "title+head"))
        ['encoder.title.weight', 'head.weight']
    """
    if parts is None:
        return parameters
    chosen: dict[str, Tensor] = {}
    for part in parts.split("+"):
        start = "head." if part == "head" else f"encoder.{part}."
        found = {name: p for name, p in parameters.items() if name.startswith(start)}
        if not found:
            known = dict.fromkeys(name.removeprefix("encoder.").split(".")[0] for name in parameters)
            raise UnknownName("part to adapt", part, known)
        chosen |= found
    return {name: p for name, p in parameters.items() if name in chosen}
