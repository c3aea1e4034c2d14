"""Reads a checkpoint that another program wrote: its tensors by name, and what else it holds. It runs no code."""

from __future__ import annotations

import pickle
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lowlat.models import read_safetensors

WRAPPERS = ("state_dict", "model", "state_dict_ema", "model_ema", "ema_state_dict")
"""Under which of its names a checkpoint keeps the state dict, where it is not the state dict itself; the first that is
there. The last three hold an average of weights over the training."""
PREFIXES = ("module.", "_orig_mod.")
"""What `DataParallel` and `torch.compile` put before every name, one around the other where both are used."""
COUNTER = "num_batches_tracked"
"""Counters of batch norms, which old checkpoints don't have and inference doesn't read."""
AVERAGED = "n_averaged"
"""The counter that `torch.optim.swa_utils.AveragedModel` keeps beside the averages."""


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by their public names, without the prefixes that wrappers put before all names."""

    state: dict[str, Tensor]
    meta: dict[str, Any] = field(default_factory=dict)
    """What mmsegmentation keeps under ``meta``; empty for others."""
    beside: tuple[str, ...] = ()
    """What else the file holds, by name, such as the state of an optimizer or an average of the weights."""


def read(path: str | Path) -> Checkpoint:
    """Read the checkpoint at ``path``: a safetensors file, or what `torch.save` wrote.

    Raises:
        ValueError: no such file, one that can't be read, one whose pickle asks for code to be run, or one without a
            state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"convert: expected a checkpoint, found no file {str(path)!r}; check the path")
    if path.suffix == ".safetensors":
        content: Any = _safetensors(path)
        meta, beside = {}, []
    else:
        content = _pickle(path)
        if isinstance(content, dict) and {"modules", "fixed"} <= content.keys():
            raise ValueError(
                f"convert: expected a checkpoint of another program, got {str(path)!r} of lowlat train; give the "
                ".safetensors that the training leaves beside it to --weights or --init"
            )
        meta, beside = content.get("meta") if isinstance(content, dict) else None, []
        for name in WRAPPERS:
            if isinstance(content, dict) and isinstance(content.get(name), dict):
                beside = [str(other) for other in content if other not in (name, "meta")]
                content = content[name]
                break
    state = dict(_tensors(path, content))
    if state.keys() - {AVERAGED} and state.pop(AVERAGED, None) is not None:
        beside.append(AVERAGED)
    while prefix := next((prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in state)), None):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return Checkpoint(state, meta if isinstance(meta, dict) else {}, tuple(beside))


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        state, metadata = read_safetensors(path)
    except Exception as error:
        raise _unreadable(path, error) from error
    if "network" in metadata:
        raise ValueError(
            f"convert: expected a checkpoint of another program, got {str(path)!r}, which holds {metadata['network']} "
            "as lowlat keeps it; give it to --weights or --init as it is"
        )
    return state


def _pickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if not wanted:
            raise _unreadable(path, error) from error
        raise ValueError(
            f"convert: expected a checkpoint of tensors and plain values, got {str(path)!r}, whose pickle asks for "
            f"{wanted[1]}: nothing of it was run. Save the state dict alone, where the file comes from: "
            "torch.save(model.state_dict(), 'weights.pth')"
        ) from error
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ValueError:
    # PyTorch goes on to advise to load the file by running what is in it.
    advice = r"Weights only load failed\.|In PyTorch 2\.6.*?(WeightsUnpickler error:|$)|Check the documentation.*"
    words = " ".join(re.sub(advice, "", " ".join(str(error).split())).split())[:200] or type(error).__name__
    return ValueError(
        f"convert: expected a safetensors file or what torch.save wrote at {str(path)!r}, got one that can't be read "
        f"({words}); fetch it again"
    )


def _tensors(path: Path, content: Any) -> dict[str, Tensor]:
    """Return ``content`` if it is a state dict; ``ValueError`` says what it is otherwise."""
    if not isinstance(content, dict) or not content:
        raise ValueError(
            f"convert: expected a state dict in {str(path)!r}, got {type(content).__name__} of "
            f"{len(content) if hasattr(content, '__len__') else 1}; save model.state_dict()"
        )
    strays = [str(n) for n, value in content.items() if not (isinstance(n, str) and isinstance(value, Tensor))]
    if strays:
        raise ValueError(
            f"convert: expected tensors by name in {str(path)!r}, or such a dict under {' or '.join(WRAPPERS)}, got "
            f"other things: {', '.join(strays[:5])}; save model.state_dict()"
        )
    if odd := [name for name, tensor in content.items() if not _plain(name, tensor)]:
        tensor = content[odd[0]]
        layout = "" if tensor.layout == torch.strided else f" {tensor.layout}"
        raise ValueError(
            f"convert: expected dense tensors of floating-point numbers in {str(path)!r}, got {odd[0]!r} of "
            f"{tensor.dtype}{layout} on {tensor.device}; save the weights in float32"
        )
    return content


def _plain(name: str, tensor: Tensor) -> bool:
    """Whether a tensor can be a network's: floating-point numbers in dense memory, or a counter."""
    dense = tensor.layout == torch.strided and not tensor.is_meta and not tensor.is_quantized
    return dense and (tensor.is_floating_point() or tensor.ndim == 0 or name.endswith(COUNTER))
