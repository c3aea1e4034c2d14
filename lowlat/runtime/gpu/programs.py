"""`NetworkPrograms`: a `VideoNetwork`'s stages on given memory, which the GPU runtime enqueues and captures."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Mapping
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lowlat.networks.backbone import Link, first_of
from lowlat.networks.labels import scores_on_host, static_labels
from lowlat.networks.video_network import Anchor, Reduced, VideoNetwork
from lowlat.runtime.gpu.device import Size, Work
from lowlat.runtime.options import DTYPES, PreparedNetwork
from lowlat.runtime.stages import checked_frame, resized, working_size
from lowlat.schedule import Signal
from svconv import svconv2d


class LowMemory(NamedTuple):
    """F_l ``(1, C_l, h, w)``, or a tuple of F_l and what else S_h reads, and its reductions ``(1, channels, h, w)``."""

    features: Tensor | tuple[Tensor, ...]
    predict: Tensor
    adapt: Tensor
    select: Tensor


class KeptMemory(NamedTuple):
    """What is kept of a key frame: F_l, as in `LowMemory`, and its reduction for the selector."""

    features: Tensor | tuple[Tensor, ...]
    select: Tensor


class NetworkPrograms(PreparedNetwork):
    """A network's stages on given memory: each reads its first arguments and writes its last. It holds the weights,
    once for all videos, and no state of a video.

    `low` is F_l with its reductions, `kept` what is kept of the key frame's, `base` what propagation needs of the
    base's, a `place` what carrying needs of each frame on a path; `high` is F_h. `GpuStages`, which has it all run, is
    free of torch, so that tests can give it numbers in the place of tensors.
    """

    @cached_property
    def _low(self) -> Callable[..., Any]:
        return self._ready(self._compute_low)

    @cached_property
    def _fused(self) -> Callable[..., Any]:
        return self._ready(self._compute_fused)

    def without_fast_track(self) -> NetworkPrograms:
        programs = super().without_fast_track()
        # A compiled S_l computes the reductions too: another one is compiled without them.
        programs.__dict__.pop("_low", None)
        return programs

    def size_of(self, frame: Any) -> Size:
        """Return a frame's height and width; ValueError unless it is uint8 ``(H, W, 3)``."""
        return checked_frame("NetworkPrograms", frame)

    def makers(self, size: Size) -> Mapping[str, Callable[[], Any]]:
        """Return the functions that make the memory for frames of `size`, by the kind of buffer in `Caches`."""
        shapes = _meta(self.network)
        with torch.inference_mode():
            low = self._meta_low(shapes, size)
            predict, adapt, select = (tensor.shape for tensor in shapes.reduce(low))
            high = shapes.higher(low)
            scores = shapes.classify(high).shape[1:]
        crossing = tuple(tensor.shape for tensor in _tensors(low))
        features = self._features

        def plain(*shape: int, dtype: torch.dtype, host: bool = False) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device="cpu" if host else self.device)

        return {
            "frame": lambda: plain(*size, 3, dtype=torch.uint8, host=True),
            "image": lambda: plain(*size, 3, dtype=torch.uint8),
            "low": lambda: LowMemory(self._between(crossing), features(predict), features(adapt), features(select)),
            "kept": lambda: KeptMemory(self._between(crossing), features(select)),
            "base": lambda: features(predict),
            "place": lambda: (features(predict), features(adapt)),
            "high": lambda: features(high.shape),
            "propagated": lambda: features(high.shape),
            "labels": lambda: plain(*size, dtype=torch.uint8),
            "labels_out": lambda: plain(*size, dtype=torch.uint8, host=True),
            "scores": lambda: plain(*scores, dtype=torch.float32),
            "scores_out": lambda: plain(*scores, dtype=torch.float32, host=True),
            "value": lambda: plain(1, dtype=torch.float32),
            "value_out": lambda: plain(1, dtype=torch.float32, host=True),
        }

    def load(self, frame: np.ndarray) -> Work:
        """Return `work(frame buffer)`, which copies the frame into pinned memory, on the host."""
        return lambda pinned: np.copyto(pinned.numpy(), frame)

    @torch.inference_mode()
    def lower(self, image: Tensor, low: LowMemory) -> None:
        """S_l and the reductions."""
        # Without a fast track `_low` gives F_l alone.
        for memory, part in zip(low, self._low(image), strict=False):
            _copy(part, memory)

    def higher(self, segments: int) -> list[Work]:
        """Return S_h as at most `segments` parts in order, each `work(source, *before, after)`. The source is `kept` or
        `low`; `before`, none for the first part, and `after` lie in the scratch; the last part writes `high`."""
        return [self._segment(links) for links in _parts(self.network.higher_chain(), segments)]

    def scratch(self, size: Size, segments: int) -> list[tuple[Hashable, Callable[[], Any]]]:
        """Return for each place between two parts of `higher` a key and the function that makes the memory. Places with
        equal keys may share their memory; neighbours never have equal keys."""
        shapes, between = _meta(self.network), []
        with torch.inference_mode():
            x = low = self._meta_low(shapes, size)
            for part, links in enumerate(_parts(shapes.higher_chain(), segments)[:-1]):
                x = _chained(links, x, low)
                given = tuple(tensor.shape for tensor in _tensors(x))
                between.append(((part % 2, given), partial(self._between, given)))
        return between

    def _segment(self, links: list[Link]) -> Work:
        chain = self._ready(partial(_chained, links))

        @torch.inference_mode()
        def work(source: LowMemory | KeptMemory, *memory: Any) -> None:
            *before, after = memory
            result = chain(before[0] if before else source.features, source.features)
            _copy(result, after)

        return work

    def _between(self, shapes: tuple[torch.Size, ...]) -> Any:
        """Make memory for what crosses the cut, or goes from one part of S_h to the next: one tensor or several."""
        made = tuple(map(self._features, shapes))
        return made if len(made) > 1 else made[0]

    def _features(self, shape: torch.Size) -> Tensor:
        channels_last = self.options.channels_last and len(shape) == 4
        layout = torch.channels_last if channels_last else torch.contiguous_format
        dtype = DTYPES[self.options.dtype]
        return torch.zeros(shape, dtype=dtype, device=self.device).contiguous(memory_format=layout)

    def _meta_low(self, shapes: VideoNetwork, size: Size) -> Tensor:
        """Return F_l of a frame of `size` on the meta device: its shape without numbers."""
        working = working_size(*size, self.pixels, self.network.multiple)
        return shapes.lower(torch.empty(1, 3, *working, dtype=shapes.mean.dtype, device="meta"))

    @torch.inference_mode()
    def hold(self, low: LowMemory, kept: KeptMemory, base: Tensor, place: tuple[Tensor, Tensor]) -> None:
        """Keep F_l of a key frame, and its half of the fast track."""
        _copy(low.features, kept.features)
        kept.select.copy_(low.select)
        self.rebase(low, base, place)

    @torch.inference_mode()
    def rebase(self, low: LowMemory, base: Tensor, place: tuple[Tensor, Tensor]) -> None:
        """Keep of a base what later propagation needs, and what carrying F_h on needs."""
        base.copy_(self.network.predictor.from_key(low.predict))
        _copy((low.predict, low.adapt), place)

    @torch.inference_mode()
    def carry(self, before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor], high: Tensor) -> None:
        """Carry F_h on from one place of a path to the next."""
        network, current = self.network, Reduced(*after, select=after[1])
        anchor = Anchor(network.predictor.from_key(before[0]), select=before[1])
        high.copy_(network.fuse(network.propagate(anchor, high, current), current).high)

    @torch.inference_mode()
    def keep(self, propagated: Tensor, high: Tensor) -> None:
        """Keep the F_h of a temporary key frame."""
        high.copy_(propagated)

    @torch.inference_mode()
    def propagate(self, base: Tensor, high: Tensor, low: LowMemory, *written: Tensor) -> None:
        """Eq. 1, AdaptNet, fusion; writes the F_h to carry on, labels and scores."""
        propagated, labels, scores = written
        network = self.network
        options = {"kernel_size": network.predictor.kernel_size, "padding_mode": network.padding_mode}
        svconv2d(high, network.predictor(base, low.predict), out=propagated, **options)
        found, given, high = self._fused(propagated, low, labels.shape)
        labels.copy_(found)
        scores.copy_(given)
        # Without a correction `high` is `propagated` itself.
        propagated.copy_(high)

    @torch.inference_mode()
    def classify(self, high: Tensor, labels: Tensor, scores: Tensor) -> None:
        """Labels and scores from F_h alone."""
        given = self.network.classify(high)
        labels.copy_(static_labels(given, labels.shape)[0])
        scores.copy_(given[0])

    def select(self, signal: Signal) -> Work:
        """Return `work(kept, low, value)`, which computes the key frame decision's value."""

        @torch.inference_mode()
        def deviation(kept: KeptMemory, low: LowMemory, value: Tensor) -> None:
            value.copy_(self.network.selector(kept.select, low.select))

        @torch.inference_mode()
        def difference(kept: KeptMemory, low: LowMemory, value: Tensor) -> None:
            value.copy_(self.network.difference(first_of(kept.features), first_of(low.features)))

        return deviation if signal is Signal.DEVIATION else difference

    def labels(self, pinned: Tensor) -> np.ndarray:
        """Copy labels out of pinned memory."""
        return pinned.numpy().copy()

    def scores(self, size: Size, asked: str) -> Work:
        """Return `work(pinned)`, which copies scores out of pinned memory, at the size that is ``asked`` for."""
        return lambda pinned: scores_on_host(pinned, size, asked)

    def number(self, pinned: Tensor) -> float:
        """Read the value in pinned memory."""
        return pinned.item()

    def _ready(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compile the function if that is wanted, with static shapes, since a video's frames have one size."""
        return torch.compile(function, dynamic=False) if self.options.compiled else function

    def _compute_low(self, image: Tensor) -> tuple[Tensor, ...]:
        """uint8 ``(H, W, 3)`` -> F_l, and with a fast track its reductions."""
        frames = image.permute(2, 0, 1)[None]
        frames = resized(frames, working_size(*image.shape[:2], self.pixels, self.network.multiple))
        features = self.network.lower(self.network.normalise(frames))
        return (features, *self.network.reduce(features)) if self.fast_track else (features,)

    def _compute_fused(self, propagated: Tensor, low: LowMemory, size: torch.Size) -> tuple[Tensor, Tensor, Tensor]:
        """Return labels, uint8 of `size`, scores ``(classes, h, w)`` and the F_h to carry on."""
        scores, high = self.network.fuse(propagated, Reduced(low.predict, low.adapt, low.select))
        return static_labels(scores, size)[0], scores[0], high


def _parts(links: list[Link], segments: int) -> list[list[Link]]:
    """Split a chain into at most `segments` parts, as even as whole numbers allow."""
    segments = min(segments, len(links))
    cuts = [round(len(links) * part / segments) for part in range(segments + 1)]
    return [links[a:b] for a, b in pairwise(cuts)]


def _chained(links: list[Link], x: Any, low: Tensor) -> Any:
    for run in links:
        x = run(x, low)
    return x


def _tensors(value: Any) -> tuple[Tensor, ...]:
    return (value,) if isinstance(value, Tensor) else tuple(value)


def _copy(source: Any, target: Any) -> None:
    for tensor, memory in zip(_tensors(source), _tensors(target), strict=True):
        memory.copy_(tensor)


def _meta(network: VideoNetwork) -> VideoNetwork:
    """Copy a network onto the meta device, where it computes shapes alone."""
    memo = {id(tensor): tensor.to("meta") for tensor in (*network.parameters(), *network.buffers())}
    return copy.deepcopy(network, memo)
