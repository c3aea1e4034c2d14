"""The reference against its definition, by plain loops."""

import math

import pytest
import torch

from svconv import checks, reference


def read(place, u, size, kernel_size, dilation, padding_mode, taps, scale):
    """The row or column, of `size`, that tap u in [-r, r] reads for a place of the result; None for none."""
    r, centre = kernel_size // 2, place // scale
    if padding_mode == "shift":
        # Each residue class of the dilation is a frame of its own, in which the window is moved inwards.
        phase, index = centre % dilation, centre // dilation
        count = (size - phase + dilation - 1) // dilation
        centre = min(max(index, r), count - 1 - r) * dilation + phase
    position = centre + dilation * u if taps == "correlation" else centre - dilation * u
    if padding_mode == "reflect":
        position = -position if position < 0 else position
        return 2 * (size - 1) - position if position >= size else position
    if padding_mode == "replicate":
        return min(max(position, 0), size - 1)
    return position if 0 <= position < size else None


def by_definition(input, logits, kernel_size, dilation, groups, normalize, padding_mode, taps="convolution", scale=1):
    n, c, h, w = input.shape
    r = kernel_size // 2
    window = kernel_size, dilation, padding_mode, taps, scale
    out = input.new_zeros(n, c, scale * h, scale * w)
    for b in range(n):
        for ch in range(c):
            first = ch // (c // groups) * kernel_size**2
            for i in range(scale * h):
                for j in range(scale * w):
                    taps = []
                    for u in range(-r, r + 1):
                        for v in range(-r, r + 1):
                            y, x = read(i, u, h, *window), read(j, v, w, *window)
                            inside = y is not None and x is not None
                            tap = first + (u + r) * kernel_size + (v + r)
                            weight = logits[b, tap, i, j].item()
                            if normalize:
                                excluded = padding_mode == "renormalize" and not inside
                                weight = 0.0 if excluded else math.exp(weight)
                            taps.append((weight, input[b, ch, y, x].item() if inside else 0.0))
                    total = sum(weight for weight, _ in taps) if normalize else 1.0
                    out[b, ch, i, j] = sum(weight * value for weight, value in taps) / total
    return out


@pytest.mark.parametrize("padding_mode", ["zeros", "renormalize"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("kernel_size", "dilation", "groups"), [(1, 1, 1), (3, 1, 1), (3, 2, 2), (5, 1, 2)])
def test_reference_is_the_definition(kernel_size, dilation, groups, normalize, padding_mode):
    torch.manual_seed(0)
    input = torch.randn(2, 2, 3, 5, dtype=torch.float64)
    logits = torch.randn(2, groups * kernel_size**2, 3, 5, dtype=torch.float64)
    options = dict(
        kernel_size=kernel_size,
        dilation=dilation,
        groups=groups,
        normalize=normalize,
        padding_mode=padding_mode,
    )
    torch.testing.assert_close(reference.svconv2d(input, logits, **options), by_definition(input, logits, **options))


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("taps", ["convolution", "correlation"])
@pytest.mark.parametrize("padding_mode", checks.PADDING_MODES)
@pytest.mark.parametrize(("kernel_size", "dilation"), [(1, 1), (3, 1), (3, 2), (5, 1)])
def test_reference_of_every_window_is_the_definition(kernel_size, dilation, padding_mode, taps, scale):
    torch.manual_seed(0)
    input = torch.randn(1, 2, 6, 7, dtype=torch.float64)
    logits = torch.randn(1, 2 * kernel_size**2, scale * 6, scale * 7, dtype=torch.float64)
    options = dict(kernel_size=kernel_size, dilation=dilation, groups=2, normalize=True)
    options.update(padding_mode=padding_mode, taps=taps, scale=scale)
    torch.testing.assert_close(reference.svconv2d(input, logits, **options), by_definition(input, logits, **options))


def test_tap_order_and_sign():
    """All weight on tap (u, v) = (1, 0), row-major, reads the pixel above: out[i, j] = input[i - 1, j]."""
    input = torch.arange(12.0).reshape(1, 1, 3, 4)
    weights = torch.zeros(1, 9, 3, 4)
    weights[:, 7] = 1
    out = reference.svconv2d(input, weights, kernel_size=3, normalize=False)
    assert out[0, 0].tolist() == [[0, 0, 0, 0], [0, 1, 2, 3], [4, 5, 6, 7]]
