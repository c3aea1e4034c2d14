"""`Classes`: the names and colours of a network's classes, which a file of weights keeps."""

from __future__ import annotations

import colorsys
import json
from collections.abc import Mapping
from dataclasses import dataclass

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Classes:
    """Names and colours by class index: label ``c`` is called ``names[c]`` and drawn in ``palette[c]``.

    Args:
        names: one name a class.
        palette: one RGB colour a class, each number in 0 to 255.

    Raises:
        ValueError: not as many names as colours, none, more than 256, or a colour out of range.
    """

    names: tuple[str, ...]
    palette: tuple[Colour, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(map(str, self.names)))
        object.__setattr__(self, "palette", tuple(tuple(int(part) for part in colour) for colour in self.palette))
        if not len(self.names) == len(self.palette) >= 1:
            raise ValueError(
                f"Classes: expected a colour for every name, got {len(self.names)} names and {len(self.palette)} "
                "colours; leave none out"
            )
        if len(self.names) > 256:
            raise ValueError(f"Classes: expected 256 at most, since labels are bytes, got {len(self.names)}; join some")
        for colour in self.palette:
            if len(colour) != 3 or not all(0 <= part <= 255 for part in colour):
                raise ValueError(f"Classes: expected colours of three numbers in 0 to 255, got {colour}")

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def numbered(cls, count: int) -> Classes:
        """Make ``count`` classes without names of their own: "class 0", "class 1", ..., in hues that differ well."""
        return cls(tuple(f"class {index}" for index in range(count)), tuple(map(distinct_colour, range(count))))

    def as_metadata(self) -> dict[str, str]:
        """Return the strings by which a file of weights keeps the classes."""
        return {"names": json.dumps(self.names), "palette": json.dumps(self.palette)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], count: int) -> Classes:
        """Read the classes from a file's metadata, as :meth:`as_metadata` wrote them; without any, number ``count``.

        Raises:
            ValueError: there are names for another number of classes than ``count``, or they can't be read.
        """
        if "names" not in metadata:
            return cls.numbered(count)
        classes = cls(json.loads(metadata["names"]), json.loads(metadata["palette"]))
        if len(classes) != count:
            raise ValueError(f"Classes: expected names for {count} classes, got {len(classes)}; save the weights again")
        return classes


def distinct_colour(index: int) -> Colour:
    """Return a colour for class ``index`` that differs well from those of the classes before it."""
    # Steps of the golden ratio around the circle of hues never come close to an earlier hue.
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(index * 0.618 % 1, 0.75, 0.85))


CAMVID = Classes(
    ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"),
    (
        (70, 130, 180), (128, 64, 32), (192, 192, 128), (128, 64, 128), (244, 35, 232), (107, 142, 35),
        (220, 220, 0), (190, 153, 153), (0, 0, 200), (220, 20, 60), (0, 190, 190),
    ),
)  # fmt: skip
"""The 11 street classes of CamVid in the SegNet split, which `lite` tells apart (Brostow et al., 2009)."""
