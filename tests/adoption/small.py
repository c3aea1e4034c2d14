"""Small networks to adopt, plain ones and some that can't be adopted; and how they are."""

import torch
import torch.nn.functional as F
from torch import nn

import lowlat

EXAMPLE = torch.zeros(1, 3, 32, 48)


def adopt(model, **options):
    """Adopt a `Plain` model, or one with its modules, at the size of `EXAMPLE`."""
    return lowlat.adopt(model, **{"split": "stem", "features": "neck", "example": EXAMPLE, "classes": 3, **options})


class Plain(nn.Module):
    """A network such as anybody writes: a stem to stride 4, three blocks, a neck, a head."""

    def __init__(self, channels=8, classes=3):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, 2, 1), nn.ReLU(), nn.Conv2d(channels, channels, 3, 2, 1))
        self.blocks = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(3))
        self.neck = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        self.head = nn.Conv2d(2 * channels, classes, 1)

    def low(self, frames):
        return self.stem(frames)

    def high(self, low):
        for block in self.blocks:
            low = torch.relu(block(low))
        return self.neck(low)

    def scores(self, high):
        return self.head(high)

    def forward(self, frames):
        scores = self.scores(self.high(self.low(frames)))
        return F.interpolate(scores, frames.shape[-2:], mode="bilinear", align_corners=False)


class Returning(Plain):
    """Returns what a function makes of the frame and of its scores."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, frames):
        return self.make(frames, super().forward(frames))


class Aligned(Plain):
    """Upsamples its scores with corners aligned, so that its last step depends on the frame's size."""

    def forward(self, frames):
        scores = self.scores(self.high(self.low(frames)))
        return F.interpolate(scores, frames.shape[-2:], mode="bilinear", align_corners=True)


class Deciding(Plain):
    """Chooses a branch by the numbers in its features."""

    def high(self, low):
        return super().high(low if low.mean() > 0 else -low)


class Counting(Plain):
    """Gives other scores each time it is called, because one of its blocks counts its calls."""

    def __init__(self):
        super().__init__()
        self.blocks[1] = Counter()


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x * (1 + self.calls)


class Remembering(Plain):
    """Does the same at every call, and something else while it is traced, because its second block asks whether its
    numbers are real."""

    def __init__(self):
        super().__init__()
        self.blocks[1] = Suspicious()


class Suspicious(nn.Module):
    def forward(self, x):
        return x * (2 if type(x) is torch.Tensor else 3)


class Odd(nn.Module):
    """Has skips, padding of an odd size, and an activation in place on a tensor that another layer reads as well."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.down = nn.Conv2d(8, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.up = nn.ConvTranspose2d(8, 8, 2, 2)
        self.head = nn.Conv2d(16, 3, 1)
        self.register_buffer("scale", torch.linspace(0.5, 1.5, 8).view(1, 8, 1, 1), persistent=False)
        self.offset = torch.linspace(-1, 1, 8).view(1, 8, 1, 1)  # neither parameter nor buffer

    def forward(self, frames):
        fine = self.stem(frames)
        seen = fine[:, :4]
        F.relu_(fine)
        deep = self.norm(self.down(fine)) * self.scale + self.offset
        deep = self.up(F.relu(deep, inplace=True))
        return self.head(torch.cat((deep, seen, fine[:, 4:]), 1))


class Strict(nn.Module):
    """A U-Net of two levels without padding of its own, so that it only takes frames whose sides are multiples of
    16."""

    def __init__(self, classes=3):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.down = nn.Conv2d(8, 8, 4, 4)
        self.up = nn.ConvTranspose2d(8, 8, 4, 4)
        self.mix = nn.Conv2d(16, 8, 1)
        self.head = nn.Conv2d(8, classes, 1)

    def forward(self, frames):
        fine = self.stem(frames)
        return self.head(self.mix(torch.cat((self.up(self.down(fine)), fine), 1)))
