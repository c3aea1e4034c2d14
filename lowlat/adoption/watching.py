"""What a model returns, and the result of each of its modules, for tracing and for checks of a cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor, nn


class NoScores(ValueError):
    """Raised if what a model returns holds no scores as they are asked for."""


def scores_of(output: Any, name: str | int | None, who: str) -> Tensor:
    """Return the scores ``(N, classes, h, w)`` in what a model returns.

    Args:
        output: what the model returned: a tensor; a mapping, a dataclass or a named tuple, whose parts have names; or a
            sequence.
        name: the scores' name, or their place in a sequence. None finds ``"out"`` and ``"logits"``, else the only part
            that has the shape of scores; in a sequence the first part.

    Raises:
        NoScores: they aren't there, or several parts might be meant.
    """
    parts, found = _named_parts(output), output
    if parts is not None and not (isinstance(output, tuple) and isinstance(name, int)):
        known = [key for key in ("out", "logits") if key in parts]
        maps = [key for key, part in parts.items() if isinstance(part, Tensor) and part.ndim == 4]
        # Which of several is meant must not be left to chance.
        chosen = [name] if name is not None else known[:1] or (maps if len(maps) == 1 else [])
        found = next((parts[key] for key in chosen if key in parts), None)
    elif isinstance(output, (tuple, list)):
        place = 0 if name is None else name
        found = output[place] if isinstance(place, int) and -len(output) <= place < len(output) else None
    if not isinstance(found, Tensor) or found.ndim != 4:
        got = list(parts) if parts is not None else "a tensor" if found is output else type(output).__name__
        shown = f" of shape {tuple(found.shape)}" if isinstance(found, Tensor) else ""
        raise NoScores(
            f"{who}: expected scores (N, classes, h, w) from the model, got {got}{shown}; give their name as output=, "
            "or wrap the model in a module that returns them"
        )
    return found


def _named_parts(output: Any) -> Mapping[Any, Any] | None:
    """Return the parts of a mapping, a dataclass or a named tuple by name; None for anything else."""
    if isinstance(output, Mapping):
        return output
    if is_dataclass(output) and not isinstance(output, type):
        return {field.name: getattr(output, field.name) for field in fields(output)}
    return output._asdict() if isinstance(output, tuple) and hasattr(output, "_asdict") else None


class watching:
    """Within the block, keeps a copy of the result of each module of a model, if it is a map or tokens."""

    def __init__(self, model: nn.Module, seen: dict[str, Tensor]) -> None:
        self._model, self._seen = model, seen

    def __enter__(self) -> None:
        self._handles = [
            module.register_forward_hook(self._hook(name)) for name, module in self._model.named_modules() if name
        ]

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, name: str) -> Any:
        def keep(_module: nn.Module, _given: Any, output: Any) -> None:
            tensor = next(_tensors(output), None)
            if tensor is not None and tensor.ndim in (3, 4) and tensor.is_floating_point():
                # The last run of a module counts, and its place in the order.
                self._seen.pop(name, None)
                # A copy: an activation in place may write over it.
                self._seen[name] = tensor.clone()

        return keep


def _tensors(value: Any) -> Iterator[Tensor]:
    parts = _named_parts(value)
    if isinstance(value, Tensor):
        yield value
    elif parts is not None or isinstance(value, (tuple, list)):
        for part in value if parts is None else parts.values():
            yield from _tensors(part)
