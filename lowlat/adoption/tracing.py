"""Traces a network made elsewhere at one size of frames, by `torch.export`."""

from __future__ import annotations

import copy
import logging
import operator
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, fx, nn

from lowlat.adoption.alone import alone
from lowlat.adoption.program import read, writes_through_views
from lowlat.adoption.traced import Size, Traced
from lowlat.adoption.watching import NoScores, scores_of, watching


def trace(model: nn.Module, size: Size, output: str | None = None, *, who: str = "adopt") -> Traced:
    """Trace a model, in eval mode, at one size.

    Args:
        model: takes normalised frames ``(1, 3, H, W)`` as its first argument.
        output: the name or the place of the scores in what it returns, as :func:`scores_of` takes it.
        who: the function that errors name.

    Raises:
        ValueError: the model can't run at that size, or decides by the numbers in a tensor.
    """
    names: list[str] = []
    model = _with_the_same_tensors(model)

    class Watched(nn.Module):
        """The model, and what each of its modules gives."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
            seen: dict[str, Tensor] = {}
            try:
                with watching(self.model, seen):
                    scores = scores_of(self.model(image), output, who)
            except NoScores:
                raise
            except Exception as error:
                raise _Failed from error
            names[:] = seen
            return scores, list(seen.values())

    training = {module: module.training for module in model.modules()}
    weight = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    example = torch.zeros(1, 3, *size, dtype=weight.dtype, device=weight.device)
    try:
        # A size may be asked for the first time inside a run of inference.
        with (
            alone(),
            torch.inference_mode(False),
            torch.no_grad(),
            warnings.catch_warnings(),
            _unlogged(),
        ):
            warnings.simplefilter("ignore")
            program = torch.export.export(Watched().eval(), (example,), strict=False)
            if writes_through_views(program.graph) or _only_idle_regions(program):
                program = program.run_decompositions({})
        _check_flat(program)
    except NoScores:
        raise
    except _Failed as failed:
        raise _untraceable(who, size, failed.__cause__) from failed.__cause__
    except Exception as error:
        raise _untraceable(who, size, error) from error
    finally:
        for module, mode in training.items():
            module.training = mode
    with torch.inference_mode(False), torch.no_grad():
        return read(program, names)


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keep torch from logging fifty lines of traceback before it raises an error."""
    names = "torch._subclasses.fake_tensor", "torch.fx.experimental.symbolic_shapes"
    before = {logger: logger.disabled for logger in map(logging.getLogger, names)}
    for logger in before:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, disabled in before.items():
            logger.disabled = disabled


def _with_the_same_tensors(model: nn.Module) -> nn.Module:
    """Return a copy of a model's modules on the same tensors. A trace puts other tensors in their places for a while,
    which whoever runs the model must not see, nor what its forward keeps. Returns the model itself if it can't be
    copied, or if it has forward hooks, which may read and write the model that they were made for."""
    tensors = (*model.parameters(), *model.buffers())
    try:
        if any(module._forward_hooks for module in model.modules()):
            return model
        return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
    except Exception:
        return model


class _Failed(Exception):
    """Raised from an error of the model while it is traced, since `torch.export` prints the whole graph for some
    errors."""


def _regions(program: torch.export.ExportedProgram) -> list[fx.Node]:
    """Return the nodes that run some steps of a model as a graph of their own."""
    graphs = [
        node
        for node in program.graph.nodes
        if node.op == "get_attr" and not isinstance(operator.attrgetter(node.target)(program.graph_module), Tensor)
    ]
    return [next(iter(node.users), node) for node in graphs]


def _only_idle_regions(program: torch.export.ExportedProgram) -> bool:
    """Whether there are such regions, all of them of an autocast that is off, or is another device's."""
    found = _regions(program)
    return bool(found) and all("wrap_with_autocast" in str(node.target) and not node.args[2] for node in found)


def _check_flat(program: torch.export.ExportedProgram) -> None:
    """Raise ValueError if some steps of a model are a graph of their own, which can't be cut: it chooses the type
    within, or which steps are taken."""
    for node in _regions(program):
        raise ValueError(
            f"a region of its own ({node.target}), as autocast, enable_grad or cond make; do without in forward"
        )


def _untraceable(who: str, size: Size, error: Exception) -> ValueError:
    height, width = size
    # Behind that torch tells of its own workings.
    words, kind = " ".join(str(error).split()).partition(" (unhinted")[0][:300], type(error).__name__
    if "data-dependent" in words.lower() or "DataDependent" in kind or "UserError" in kind:
        return ValueError(
            f"{who}: expected a model whose steps depend on the frame's size alone, got one that decides by the "
            f"numbers in a tensor: {words}{_place(error)}; give its parts by hand: lowlat.adopt(lower=..., higher=..., "
            "classify=...)"
        )
    return ValueError(
        f"{who}: expected a model that torch.export can trace for frames of {width}x{height}, got {kind}: "
        f"{words}{_place(error)}; give an example of a size that the model takes, or its parts by hand: "
        "lowlat.adopt(lower=..., higher=..., classify=...)"
    )


def _place(error: Exception) -> str:
    """The last line of the model's own code that an error came through, in words; empty if there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(str(Path(torch.__file__).parent))]
    own = [frame for frame in own if frame.filename != __file__]
    return f" in line {own[-1].lineno} of {Path(own[-1].filename).name}" if own else ""
