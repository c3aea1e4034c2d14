"""How steady labels are beside those of the same network frame by frame: agreement, flicker and slivers. The demo and
the evaluation share this definition (docs/steadiness.md)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True)
class SteadinessFigures:
    """Figures of one run in percent; None if there was nothing to take one from."""

    agreement_percent: float | None
    """Pixels labelled as frame by frame, over all frames."""
    extra_flicker_percent: float | None
    """Pixels whose label changes from one frame to the next where frame by frame it does not, cuts left out."""
    row_slivers_percent: float | None
    """Positions of the score grid whose label is neither that of the position above nor that of the one below."""
    column_slivers_percent: float | None
    """The same with the positions at the left and at the right."""
    per_frame_row_slivers_percent: float | None
    """The row slivers of the labels frame by frame."""
    per_frame_column_slivers_percent: float | None

    def as_dict(self) -> dict[str, float | None]:
        """Plain values, for JSON."""
        return asdict(self)


class Slivers:
    """Counts the positions of the score grid whose label neither of two neighbours has, over any number of label maps.

    Args:
        grid: ``(h, w)`` of the network's scores; a label map is read at that many positions, evenly spread.
    """

    def __init__(self, grid: tuple[int, int]) -> None:
        self._grid = grid
        self._rows, self._columns = _Share(), _Share()

    def add(self, labels: np.ndarray) -> None:
        """Count a label map ``(H, W)``."""
        rows, columns = (np.arange(n) * side // n for n, side in zip(self._grid, labels.shape, strict=True))
        read = labels[rows][:, columns]
        self._rows.add(_alone(read))
        self._columns.add(_alone(read.T))

    @property
    def row_percent(self) -> float | None:
        """The percentage of positions whose label differs from those above and below; positions at the border don't
        count."""
        return self._rows.percent

    @property
    def column_percent(self) -> float | None:
        """The percentage of positions whose label differs from those at the left and right."""
        return self._columns.percent


class Steadiness:
    """Takes the label maps of a run in the order in which they are shown, and keeps those of one frame.

    Args:
        grid: ``(h, w)`` of the network's scores, for slivers; None counts none.
    """

    def __init__(self, grid: tuple[int, int] | None = None) -> None:
        self._agreement, self._flicker = _Share(), _Share()
        self._slivers = None if grid is None else (Slivers(grid), Slivers(grid))
        self._before: tuple[np.ndarray, np.ndarray] | None = None

    def add(self, labels: np.ndarray, per_frame: np.ndarray, *, cut: bool = False) -> None:
        """Count one frame.

        Args:
            labels: the label map shown, ``(H, W)``.
            per_frame: the label map of the same frame by the whole network, ``(H, W)``.
            cut: whether the scene has changed since the frame before. A change of labels is no flicker then, nor is it
                one between frames of two sizes.

        Raises:
            ValueError: the maps differ in shape.
        """
        self._agreement.add(same_labels(labels, per_frame))
        if self._before is not None and not cut and self._before[0].shape == labels.shape:
            shown, whole = self._before
            self._flicker.add((labels != shown) & (per_frame == whole))
        self._before = labels, per_frame
        if self._slivers is not None:
            for slivers, counted in zip(self._slivers, (labels, per_frame), strict=True):
                slivers.add(counted)

    def figures(self) -> SteadinessFigures:
        """Return the figures so far."""
        slivers = [None] * 4
        if self._slivers is not None:
            slivers = [share for counted in self._slivers for share in (counted.row_percent, counted.column_percent)]
        return SteadinessFigures(self._agreement.percent, self._flicker.percent, *slivers)


def same_labels(labels: np.ndarray, per_frame: np.ndarray) -> np.ndarray:
    """Return where two label maps of one frame agree, bool ``(H, W)``; ValueError if they differ in shape."""
    if labels.shape != per_frame.shape:
        raise ValueError(
            f"steadiness: expected label maps of one frame in one shape, got {labels.shape} and {per_frame.shape}; "
            "give both at the frame's size"
        )
    return labels == per_frame


def _alone(read: np.ndarray) -> np.ndarray:
    changes = read[1:] != read[:-1]
    return changes[:-1] & changes[1:]


class _Share:
    """Counts how many of all flags are true."""

    def __init__(self) -> None:
        self._true = self._all = 0

    def add(self, flags: np.ndarray) -> None:
        self._true += int(np.count_nonzero(flags))
        self._all += flags.size

    @property
    def percent(self) -> float | None:
        """The percentage of true flags, rounded to three digits; None if there were none."""
        return round(100 * self._true / self._all, 3) if self._all else None
