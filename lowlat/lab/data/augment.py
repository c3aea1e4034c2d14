"""Random views of labelled images, a batch at a time, for training the per-frame network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from lowlat.lab.data.camvid import VOID


def uniform(generator: Generator, low: float, high: float, *shape: int) -> Tensor:
    """Draw numbers evenly from ``[low, high)``."""
    return torch.rand(*shape, generator=generator) * (high - low) + low


def sample_images(images: Tensor, grid: Tensor) -> Tensor:
    """Read images, uint8 or float ``(N, 3, H, W)``, bilinearly at ``grid`` ``(N, h, w, 2)``.

    Returns:
        float ``(N, 3, h, w)``; the border's colour outside the images.
    """
    return F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)


def sample_labels(labels: Tensor, grid: Tensor, void: int = VOID) -> Tensor:
    """Read label maps, uint8 ``(N, H, W)``, at ``grid`` ``(N, h, w, 2)``, each place from the nearest pixel.

    Returns:
        int64 ``(N, h, w)``; ``void`` outside the maps and for all values above it.
    """
    # grid_sample reads 0 outside the map: labels are shifted so that 0 means void.
    shifted = F.grid_sample(labels[:, None].float() - void, grid, mode="nearest", align_corners=False)
    return (shifted[:, 0] + void).round().long().clamp(max=void)


def jitter_colours(images: Tensor, generator: Generator, strength: float = 0.3) -> Tensor:
    """Change brightness, contrast and saturation at random, with one draw for each image, of float ``(N, 3, H, W)`` in
    [0, 255]."""
    brightness, contrast, saturation = uniform(generator, 1 - strength, 1 + strength, 3, len(images), 1, 1, 1)
    images = images * brightness
    images = (images - images.mean((1, 2, 3), keepdim=True)) * contrast + images.mean((1, 2, 3), keepdim=True)
    grey = images.mean(1, keepdim=True)
    return ((images - grey) * saturation + grey).clamp(0, 255)


def degrade(images: Tensor, generator: Generator) -> Tensor:
    """Apply blur, noise, tint and gamma as of other cameras, drawn for each image, to float ``(N, 3, H, W)`` in [0,
    255]."""
    count, _, height, width = images.shape
    tint = uniform(generator, 0.85, 1.15, count, 3, 1, 1)
    gamma = torch.exp(uniform(generator, -0.4, 0.4, count, 1, 1, 1))
    images = 255 * (images / 255 * tint).clamp(0, 1) ** gamma
    coarser = uniform(generator, 1, 2.5, count)
    for image in (torch.rand(count, generator=generator) < 0.4).nonzero().flatten():
        small = shrunk(images[image, None], height / coarser[image].item(), width / coarser[image].item())
        images[image] = F.interpolate(small, (height, width), mode="bilinear")[0]
    noise = torch.randn(images.shape, generator=generator) * uniform(generator, 0, 8, count, 1, 1, 1)
    return (images + noise).clamp(0, 255)


def shrunk(images: Tensor, height: float, width: float) -> Tensor:
    """Return images ``(N, 3, H, W)``, antialiased at ``height`` x ``width`` if they are larger.

    Sampling a larger image at such distances would alias it.
    """
    target = max(1, round(height)), max(1, round(width))
    if target[0] >= images.shape[-2] or target[1] >= images.shape[-1]:
        return images
    return F.interpolate(images, target, mode="bilinear", antialias=True)


def paste(view: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], rare: Tensor, generator: Generator) -> None:
    """Paste what another view shows of some classes onto a view, in place: each rare class with one chance in two.

    Rare things are learned in more places so (after Ghiasi et al., "Simple Copy-Paste", CVPR 2021, and Olsson et al.,
    "ClassMix", WACV 2021, here with the labels of both).

    Args:
        view, other: float images ``(N, 3, H, W)`` and int64 labels ``(N, H, W)`` each.
        rare: which classes may be pasted, bool ``(classes,)``.
    """
    chosen = rare & (torch.rand(len(rare), generator=generator) < 0.5)
    # Void, which is ``classes``, is never pasted.
    mask = torch.cat((chosen, chosen.new_zeros(1)))[other[1]]
    view[0].copy_(torch.where(mask[:, None], other[0], view[0]))
    view[1].copy_(torch.where(mask, other[1], view[1]))


def random_view(
    images: Tensor,
    labels: Tensor,
    generator: Generator,
    scales: tuple[float, float] = (0.75, 1.75),
    void: int = VOID,
    *,
    size: tuple[int, int] | None = None,
    seen: tuple[int, int] | None = None,
    degraded: bool = False,
) -> tuple[Tensor, Tensor]:
    """Random scale, crop, flip and colours. The aspect is kept: what does not fit is cut off.

    Args:
        images: uint8 ``(N, 3, H, W)``.
        labels: uint8 ``(N, H, W)``.
        scales: the range of enlargements.
        void: the number of classes.
        size: height and width of the views; by default ``seen``.
        degraded: whether :func:`degrade` comes on top.
        seen: height and width that a whole image has at enlargement 1, its working size; by default its own.

    Returns:
        float images ``(N, 3, *size)`` in [0, 255] and int64 labels ``(N, *size)``, ``void`` outside the image.
    """
    count = len(images)
    seen = seen or tuple(images.shape[-2:])
    size = size or seen
    scale = torch.exp(uniform(generator, *torch.tensor(scales).log().tolist(), count))
    flip = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    # The share of an image's width and height that its view covers.
    share = torch.tensor([size[1] / seen[1], size[0] / seen[0]]) / scale[:, None]
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = flip * share[:, 0], share[:, 1]
    theta[:, :, 2] = uniform(generator, -1, 1, count, 2) * (1 - share).abs()
    grid = F.affine_grid(theta, [count, 3, *size], align_corners=False)
    largest = scale.max().item()
    images = shrunk(images, seen[0] * largest, seen[1] * largest)
    images = jitter_colours(sample_images(images, grid), generator)
    return degrade(images, generator) if degraded else images, sample_labels(labels, grid, void)
