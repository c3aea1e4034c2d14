"""The exponential of the CPU's kernels, as the operator's results show it: how exact it is, and where it is zero."""

import numpy as np
import pytest
import torch

from svconv import svconv2d

SHAPE = 24, 258


def of_two_taps(x):
    """Return, for each ``x``, e^x / (1 + e^x) by the operator. Of a window's weights two are no zeros: that of its
    centre, whose logit is 0 and whose pixel 0, and that of the pixel beside it, whose logit is x and whose pixel 1."""
    features = (torch.arange(SHAPE[1]) % 2).float().expand(1, 16, *SHAPE).contiguous()
    logits = torch.full((1, 9, *SHAPE), -torch.inf)
    logits[:, 4], logits[:, 5] = 0.0, x
    # Even columns, whose neighbours lie in the frame.
    return svconv2d(features, logits, kernel_size=3)[..., 2::2]


def test_the_exponential_is_as_exact_as_its_comment_says(instruction_set):
    x = torch.linspace(-87.0, 0.0, SHAPE[0] * SHAPE[1]).view(SHAPE)
    powers = x[:, 2::2].double().exp()
    wanted = powers / (1 + powers)
    unit = torch.from_numpy(np.spacing(wanted.float().numpy())).double()
    off = (of_two_taps(x) - wanted).abs() / unit
    # The sum and the quotient round as well, each by half a unit of the last place.
    near = x[:, 2::2] > -20
    assert off[..., near].max() <= 2.5 and off[..., ~near].max() <= 6


@pytest.mark.parametrize("far", [-88.5, -120.0, -1e30, -torch.inf])
def test_the_exponential_of_what_is_far_below_is_zero(far, instruction_set):
    assert torch.equal(of_two_taps(torch.tensor(far)), torch.zeros(1, 16, SHAPE[0], SHAPE[1] // 2 - 1))


def test_a_nan_among_the_logits_comes_through(instruction_set):
    x = torch.zeros(SHAPE)
    x[3, 4], x[7, 0] = torch.nan, torch.nan
    found = of_two_taps(x).isnan()
    assert found[..., 3, 1].all() and found.sum() == 16
