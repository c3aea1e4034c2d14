"""`AdoptedNetwork`: a segmentation network made elsewhere as a `VideoNetwork`, with a fast track that fits. It keeps no
state of a video."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowlat.adoption.cutting import Plan
from lowlat.adoption.fragment import Fragment
from lowlat.adoption.traced import Size
from lowlat.classes import Classes
from lowlat.networks.backbone import Link, first_of
from lowlat.networks.fast_track import AdaptNet, Correction, KeyFrameSelector, MatchingPredictor
from lowlat.networks.layers import ConvBN
from lowlat.networks.video_network import Reduced, VideoNetwork

KERNEL_SIZE = 9


class Plans:
    """The parts of a network by the size of its frames, each made when it is first asked for. Copies of a network share
    them, on any thread.

    Args:
        make: makes the plan of a size, given the number of links of the first plan, or None for the first plan itself.
        multiple: what sides should be multiples of, for an error.
    """

    def __init__(self, make: Callable[[Size, int | None], Plan], multiple: int) -> None:
        self._make, self._multiple = make, multiple
        self._lock = threading.RLock()
        self._by_size: dict[Size, Plan] = {}
        self._by_low: dict[Size, Plan] = {}
        self._by_high: dict[Size, Plan] = {}
        self._links: int | None = None

    def of_frames(self, size: Size) -> Plan:
        """Return the plan for frames of that size.

        Raises:
            ValueError: the network can't run at that size, or features of another size look the same.
        """
        plan = self._by_size.get(size)
        if plan is None:
            with self._lock:
                plan = self._by_size.get(size) or self._made(size)
        return plan

    def of_low(self, low: Tensor) -> Plan:
        """Return the plan by which F_l was made."""
        return self._known(self._by_low, low, "F_l")

    def of_high(self, high: Tensor) -> Plan:
        """Return the plan by which F_h was made."""
        return self._known(self._by_high, high, "F_h")

    def _made(self, size: Size) -> Plan:
        plan = self._make(size, self._links)
        first = next(iter(self._by_size.values()), plan)
        if (plan.low[1], plan.high[1]) != (first.low[1], first.high[1]):
            (height, width), (h, w) = size, first.size
            raise ValueError(
                f"AdoptedNetwork: expected frames whose F_l and F_h have {first.low[1]} and {first.high[1]} channels, "
                f"as those of {w}x{h}, got {width}x{height}, with {plan.low[1]} and {plan.high[1]}; resize to sides of "
                f"multiples of {self._multiple}"
            )
        for known, key in ((self._by_low, plan.low[-2:]), (self._by_high, plan.high[-2:])):
            other = known.get(key)
            if other is not None and other.code != plan.code:
                (height, width), (h, w) = size, other.size
                raise ValueError(
                    f"AdoptedNetwork: expected frames whose features tell their size, got {width}x{height}, whose "
                    f"features are of the size of those of {w}x{h}; resize to sides of multiples of {self._multiple}"
                )
        self._links = len(plan.links)
        self._by_size[size] = self._by_low[plan.low[-2:]] = self._by_high[plan.high[-2:]] = plan
        return plan

    @staticmethod
    def _known(plans: dict[Size, Plan], features: Tensor, what: str) -> Plan:
        size = tuple(features.shape[-2:])
        if size not in plans:
            raise ValueError(
                f"AdoptedNetwork: expected {what} as its own parts give it, got one of {size[1]}x{size[0]} positions; "
                "run lower on a frame of that size first"
            )
        return plans[size]

    def __deepcopy__(self, memo: dict) -> Plans:
        return self

    def __reduce__(self) -> str:
        raise TypeError(
            "AdoptedNetwork: expected to be copied or saved as weights, got pickled, which its traces can't be; keep "
            "its state_dict(), and have each process adopt the model anew"
        )


class Reduction(ConvBN):
    """The reductions of F_l, with a stride if F_l is finer than F_h."""

    def __init__(self, channels_in: int, channels_out: int, stride: int):
        super().__init__(channels_in, channels_out, 3, relu=False)
        if stride > 1:
            # The kernel covers everything between the positions that it steps over.
            size = 3 if stride == 2 else 2 * stride - 1
            self.conv = nn.Conv2d(channels_in, channels_out, size, stride, size // 2, bias=False)


class AdoptedNetwork(VideoNetwork):
    """A network made elsewhere: its own three parts, with a fast track like `lite`'s in sizes that fit.

    Propagation is by matching kernels, and fusion corrects the propagated F_h, which the network's own classifier then
    reads. If F_l and F_h have positions of different sizes, the reduced F_l is brought to those of F_h. An F_h finer
    than `lowlat.adoption.cutting.FINEST` pixels is propagated with several positions side by side as channels.

    Args:
        model: holds the weights of all three parts.
        plans: the parts.
        size: height and width of the frames that the fast track is made to fit; other sizes follow the same strides.
        legend: the classes.
        mean, std: normalisation of RGB in [0, 1], per channel.
        reduced: channels of the reduced F_l for the predictor, AdaptNet and the selector, each.
        fused: channels within fusion.
        cut: where the model is cut, in words. The state keeps them, since a fast track that was learned for another
            cut of the same shapes could be loaded too; empty for parts given by hand.

    Attributes:
        folded: whether convolutions have taken over the batch norms that follow them.
    """

    def __init__(
        self,
        model: nn.Module,
        plans: Plans,
        size: Size,
        legend: Classes,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        reduced: int = 64,
        fused: int = 64,
        cut: str = "",
    ):
        nn.Module.__init__(self)
        plan = plans.of_frames(size)
        self.model, self.plans, self.folded = model, plans, False
        self.classes, self.legend = len(legend), legend
        self.padding_mode, self.fineness, self.align_corners = "renormalize", 1, False
        self.options = {}
        self.links = len(plan.links)
        stride = max(1, round(plan.low[-2] / plan.high[-2]))
        self.reduction = Reduction(plan.low[1], 3 * reduced, stride)
        self.predictor = MatchingPredictor(reduced, KERNEL_SIZE)
        self.adapt = AdaptNet(reduced)
        self.fusion, self.correct = Correction(plan.high[1], reduced, fused), True
        self.moved, self.refine = plan.high[1], None
        self.selector = KeyFrameSelector(reduced)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        if cut:
            self.register_buffer("cut", torch.tensor(list(cut.encode()), dtype=torch.uint8))
            self.register_load_state_dict_pre_hook(_check_cut)
        self._constants: dict[tuple, tuple[Tensor, ...]] = {}

    def constants(self, fragment: Fragment) -> tuple[Tensor, ...]:
        """Return the tensors of a fragment that are no parameters, on the network's device and in its float type."""
        key = id(fragment), self.mean.device, self.mean.dtype
        if key not in self._constants:
            # Made inside a run of inference they would be of no use to training.
            with torch.inference_mode(False):
                self._constants[key] = tuple(
                    tensor.to(self.mean.device, self.mean.dtype if tensor.is_floating_point() else tensor.dtype)
                    for tensor in fragment.constants
                )
        return self._constants[key]

    def fold(self) -> None:
        """Have the convolutions of the parts take over the batch norms that follow them, as `fold_batch_norms` asks."""
        if not self.folded:
            for fold in next(iter(self.plans._by_size.values())).folds:
                fold.apply(self.model)
            self.folded = True

    def lower(self, frames: Tensor) -> Tensor | tuple[Tensor, ...]:
        """S_l: normalised ``(N, 3, H, W)`` -> F_l ``(N, C_l, h, w)``, or a tuple of F_l and what else S_h reads.

        Raises:
            ValueError: the network can't run at that size.
        """
        plan = self.plans.of_frames(tuple(frames.shape[-2:]))
        # The parts are for one frame: a model may have the number of frames in its steps.
        crossing = _together([plan.lower(self, frame) for frame in frames.split(1)])
        return crossing[0] if len(crossing) == 1 else crossing

    def higher(self, low: Tensor | tuple[Tensor, ...]) -> Tensor:
        """S_h: what `lower` returned -> F_h ``(N, C_h, h, w)``."""
        crossing = (low,) if isinstance(low, Tensor) else low
        frames = zip(*(tensor.split(1) for tensor in crossing), strict=True)
        return torch.cat([self._whole(start) for start in frames])

    def _whole(self, start: Sequence[Tensor]) -> Tensor:
        state: Any = start
        for link in self.plans.of_low(start[0]).links:
            state = link(self, state, start)
        return state

    def higher_chain(self) -> list[Link]:
        """Return S_h as a chain, which takes one frame at a time."""
        return [partial(self._link, number) for number in range(self.links)]

    def _link(self, number: int, state: Any, low: Tensor | tuple[Tensor, ...]) -> Any:
        start = (low,) if isinstance(low, Tensor) else low
        return self.plans.of_low(start[0]).links[number](self, state, start)

    def classify(self, high: Tensor) -> Tensor:
        """F_h -> scores ``(N, classes, h', w')``, upsampled as the model does it; if the model ends with the bilinear
        upsampling that labels get anyway, the scores before that."""
        plan = self.plans.of_high(high)
        return torch.cat([plan.classify(self, one) for one in high.split(1)])

    def reduce(self, low: Tensor | tuple[Tensor, ...]) -> Reduced:
        """Compute the three reductions of F_l, at the positions of F_h."""
        low = first_of(low)
        reduced, size = self.reduction(low), self.plans.of_low(low).high[-2:]
        if reduced.shape[-2:] != size:
            reduced = F.interpolate(reduced, size, mode="bilinear", align_corners=False)
        predict, adapt, select = reduced.chunk(3, 1)
        return Reduced(torch.relu(predict), torch.relu(adapt), select)


def _together(parts: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return parts[0] if len(parts) == 1 else tuple(map(torch.cat, zip(*parts, strict=True)))


def _check_cut(network: AdoptedNetwork, state: dict[str, Tensor], prefix: str, *others: Any) -> None:
    """Add an error to those of `load_state_dict` if a state is of a network that was cut elsewhere. States without
    words for it are taken."""
    key, errors = f"{prefix}cut", others[-1]
    own = network.cut
    kept, state[key] = state.get(key, own), own
    if kept.tolist() != own.tolist():
        was, now = (bytes(tensor.tolist()).decode(errors="replace") for tensor in (kept, own))
        errors.append(f"a fast track learned for {was}, beside a model cut at {now}")
