"""How a network is made ready to run. Each option can be switched off, and changes no result beyond rounding."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from numbers import Integral
from typing import TypeVar

import torch

from lowlat.networks.layers import fold_batch_norms, speed_up_pointwise
from lowlat.networks.video_network import VideoNetwork

Stages = TypeVar("Stages", bound="PreparedNetwork")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Options:
    """How a network is made ready to run.

    Raises:
        ValueError: an unknown dtype, or a switch that is neither True nor False.
    """

    dtype: str = "float32"
    """The type of weights, features and scores: "float32", "bfloat16" or "float16"."""
    channels_last: bool = True
    """Whether features have their channels side by side in memory."""
    fold: bool = True
    """Whether batch norms are folded into the convolutions before them."""
    pointwise: bool = True
    """Whether oneDNN computes 1x1 convolutions on one thread too, on a CPU in float32."""
    graphs: bool = True
    """Whether each stage is captured as a CUDA graph, on a GPU."""
    compiled: bool = False
    """Whether each stage is compiled by `torch.compile`, on a GPU."""

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(
                f"Options: expected dtype to be one of {', '.join(DTYPES)}, got {self.dtype!r}; give it as a string"
            )
        for switch in ("channels_last", "fold", "pointwise", "graphs", "compiled"):
            if not isinstance(value := getattr(self, switch), bool):
                raise ValueError(f"Options: expected {switch} to be True or False, got {value!r}; give one of them")


DEFAULT = Options()
"""The default options: float32, and all switches on but `compiled`."""


def find_device(who: str, device: str | torch.device) -> torch.device:
    """Return the CPU, or one NVIDIA GPU with its number, as a `torch.device`.

    Args:
        who: the function that was given the device, for the error.
        device: "cpu", "cuda" or "cuda:1", or a `torch.device`.

    Raises:
        ValueError: another kind of device.
        RuntimeError: torch finds no such GPU; the error says what it finds, and the mend.
    """
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{who}: expected device 'cpu', 'cuda' or 'cuda:1', got {device!r}; name one") from error
    if wanted.type == "cpu":
        return torch.device("cpu")
    if wanted.type != "cuda":
        raise ValueError(f"{who}: expected device 'cpu' or 'cuda', got {str(device)!r}; nothing here runs on that one")
    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        raise RuntimeError(
            f"{who}: expected an NVIDIA GPU for device={str(device)!r}, torch {torch.__version__}, {built}, finds "
            "none; use device='cpu', or install a torch with CUDA and NVIDIA's driver"
        )
    number = torch.cuda.current_device() if wanted.index is None else wanted.index
    if number >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise RuntimeError(f"{who}: expected a GPU up to 'cuda:{last}', got {str(device)!r}; torch finds {last + 1}")
    return torch.device("cuda", number)


class PreparedNetwork:
    """A copy of ``network`` made ready for inference. The stages of every runtime derive from it.

    Args:
        network: a trained network, which is left as it is.
        options: how the copy is made ready.
        pixels: frames are resized to about this many pixels for the network (aspect kept, sides multiples of its
            `multiple`); labels come at the frame's own size. "default" is what the network says, None leaves frames as
            they are.
        device: the device to run on, as :func:`find_device` returns it.
        fast_track: whether S_l's reductions are computed, which a per-frame run doesn't need.

    Raises:
        ValueError: ``pixels`` below 1.
    """

    def __init__(
        self,
        network: VideoNetwork,
        options: Options = DEFAULT,
        *,
        pixels: int | str | None = "default",
        device: str | torch.device = "cpu",
        fast_track: bool = True,
    ) -> None:
        pixels = network.pixels if pixels == "default" else pixels
        if pixels is not None and not (isinstance(pixels, Integral) and pixels >= 1 and pixels is not True):
            raise ValueError(f"prepare: expected pixels of at least 1, got {pixels!r}; None keeps a frame's own size")
        self.device = torch.device(device)
        self.network = prepared(network, options, self.device)
        self.options, self.pixels, self.fast_track = options, pixels, fast_track

    def without_fast_track(self: Stages) -> Stages:
        """Return the same network, with the same weights, for per-frame runs."""
        stages = copy.copy(self)
        stages.fast_track = False
        return stages


def prepared(network: VideoNetwork, options: Options, device: str | torch.device = "cpu") -> VideoNetwork:
    """Copy ``network`` for inference on a device, and do to the copy what the options say of its weights."""
    network = copy.deepcopy(network).eval()
    if options.fold:
        fold_batch_norms(network)
    if options.pointwise and torch.device(device).type == "cpu" and options.dtype == "float32":
        speed_up_pointwise(network)
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    network = network.to(device, DTYPES[options.dtype], memory_format=layout)
    return network.requires_grad_(False)
