"""A backbone that can be cut at a named point into S_l (cheap) and the start of S_h (expensive)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

Step = Callable[[Any], Any]
Link = Callable[[Any, Tensor], Any]
"""A step of a chain: what the step before it gave, and what the whole chain was given -> what the next one takes. The
last one gives a tensor."""


class Backbone(nn.Module):
    """A chain of named steps. Subclasses define ``steps`` and their channels; parameters keep their public names.

    Attributes:
        split: name of the last step of S_l.
        channels: ``{step name: output channels}``.
        unused: prefixes of the public state dict that segmentation has no use for (the ImageNet classifier).
        added: prefixes of what a public state dict has not.
    """

    split: str
    channels: dict[str, int]
    unused: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    def steps(self) -> Iterator[tuple[str, Step]]:
        """The chain, in order."""
        raise NotImplementedError

    @property
    def low_channels(self) -> int:
        """Channels of F_l."""
        return self.channels[self.split]

    def set_split(self, name: str) -> None:
        """Cut after the step called ``name``; ``ValueError`` names the steps there are."""
        names = [step for step, _ in self.steps()]
        if name not in names[:-1]:
            raise ValueError(
                f"{type(self).__name__}: expected a split point among {', '.join(names[:-1])}, got {name!r}"
            )
        self.split = name
        cut = names.index(name) + 1
        self.lower_names, self.higher_names = names[:cut], names[cut:]

    def chain(self, names: Sequence[str]) -> list[Link]:
        """The steps called ``names``, in order, one link each."""
        steps = dict(self.steps())
        return [link(steps[name]) for name in names]

    def run(self, x: Tensor, names: Sequence[str]) -> Tensor:
        """The steps called ``names``, in order."""
        return run_chain(self.chain(names), x)

    def lower(self, x: Tensor) -> Tensor:
        """S_l's part: ``(N, 3, H, W)`` -> F_l ``(N, low_channels, h, w)``."""
        return self.run(x, self.lower_names)

    def higher_chain(self) -> list[Link]:
        """S_h's part as a chain that starts from F_l."""
        return self.chain(self.higher_names)


def link(*steps: Step) -> Link:
    """Steps as one link of a chain, which looks at no more than what came before it."""

    def run(x: Tensor, _start: Tensor) -> Tensor:
        for step in steps:
            x = step(x)
        return x

    return run


def first_of(low: Tensor | tuple[Tensor, ...]) -> Tensor:
    """F_l itself, where more than one tensor crosses the cut: the first of them."""
    return low if isinstance(low, Tensor) else low[0]


def run_chain(links: Sequence[Link], start: Tensor) -> Tensor:
    """What a chain makes of ``start``."""
    x = start
    for run in links:
        x = run(x, start)
    return x
