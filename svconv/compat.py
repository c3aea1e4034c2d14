"""Functions of other packages by their own names and arguments, on the kernels of `svconv2d` and `correlation2d`.

Each replaces a function that a published model calls, so that only an import changes (docs/downstream.md). They run
wherever `svconv2d` does, in every type that it takes, and can be differentiated any number of times. Windows have an
odd number of pixels a side. An argument of a wrong type raises TypeError, any other wrong one ValueError.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from svconv import arguments, checks, dispatch, fast
from svconv.functional import correlation2d, svconv2d

# A number, or the same for rows and columns.
Size = int | tuple[int, int]
_HEADS = "(B, heads, H, W, D)"
# The options of a neighbourhood.
_NEIGHBOURHOOD = {"padding_mode": "shift", "taps": "correlation"}
_Arguments = ParamSpec("_Arguments")


def _whole(function: Callable[_Arguments, Tensor]) -> Callable[_Arguments, Tensor]:
    """The same function; what stands for a tensor, as torch.fx's Proxy does, takes a call of it as a whole."""

    @wraps(function)
    def call(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Tensor:
        given = (*args, *kwargs.values())
        if has_torch_function(given):
            return handle_torch_function(call, given, *args, **kwargs)
        return function(*args, **kwargs)

    return call


@_whole
def na2d_qk(
    query: Tensor,
    key: Tensor,
    kernel_size: Size,
    dilation: Size = 1,
    additional_keys: None = None,
    is_causal: bool = False,
    rpb: None = None,
) -> Tensor:
    """`natten.functional.na2d_qk` of NATTEN up to 0.17: the product of each query with the keys of its neighbourhood.

    Args:
        query, key: (B, heads, H, W, D).
        kernel_size, dilation: a number, or the same number twice; at the border the window is moved inwards.
        additional_keys, is_causal, rpb: as they are by default; other keys, causal windows and a relative bias are not
            computed here.

    Returns:
        (B, heads, H, W, kernel_size**2), without scale or bias; a relative bias may be added to it.
    """
    _check_default("na2d_qk", additional_keys=additional_keys, is_causal=is_causal, rpb=rpb)
    options = _neighbourhood("na2d_qk", kernel_size, dilation)
    arguments.check_devices_and_types("na2d_qk", _HEADS, _HEADS, query=query, key=key)
    _check_alike("na2d_qk", query=query.shape[:-1], key=key.shape[:-1])
    if query.shape[-1] != key.shape[-1]:
        raise ValueError(
            f"na2d_qk: expected query and key of the same channels a head, got {query.shape[-1]} and {key.shape[-1]}; "
            "give both of one projection's size"
        )
    _check_window("na2d_qk", "key", key, **options)
    out = correlation2d(_to_channels(query), _to_channels(key), **options, **_NEIGHBOURHOOD)
    return _from_channels(out, query)


@_whole
def na2d_av(
    attn: Tensor,
    value: Tensor,
    kernel_size: Size,
    dilation: Size = 1,
    additional_values: None = None,
    is_causal: bool = False,
) -> Tensor:
    """`natten.functional.na2d_av` of NATTEN up to 0.17: the weighted sum of the values in each neighbourhood.

    Args:
        attn: (B, heads, H, W, kernel_size**2), weights, which are not normalised here.
        value: (B, heads, H, W, D).
        kernel_size, dilation: as in `na2d_qk`.
        additional_values, is_causal: as they are by default.

    Returns:
        (B, heads, H, W, D).
    """
    _check_default("na2d_av", additional_values=additional_values, is_causal=is_causal)
    options = _neighbourhood("na2d_av", kernel_size, dilation)
    arguments.check_devices_and_types("na2d_av", "(B, heads, H, W, K * K)", _HEADS, attn=attn, value=value)
    _check_alike("na2d_av", attn=attn.shape[:-1], value=value.shape[:-1])
    _check_window("na2d_av", "value", value, **options)
    taps = options["kernel_size"] ** 2
    if attn.shape[-1] != taps:
        raise ValueError(
            f"na2d_av: expected attn of kernel_size**2 = {taps} weights a pixel, got {attn.shape[-1]}; give the "
            "kernel_size that na2d_qk had"
        )
    out = svconv2d(_to_channels(value), _to_channels(attn), normalize=False, **options, **_NEIGHBOURHOOD)
    return _from_channels(out, value)


@_whole
def carafe(features: Tensor, masks: Tensor, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    """`mmcv.ops.carafe`: content-aware reassembly (Wang et al., "CARAFE", ICCV 2019, Eq. 2).

    Args:
        features: (N, C, H, W).
        masks: (N, group_size * kernel_size**2, scale_factor * H, scale_factor * W), normalised.

    Returns:
        (N, C, scale_factor * H, scale_factor * W).
    """
    kernel_size = _count("carafe", kernel_size=kernel_size)
    checks.check_odd("carafe", kernel_size)
    groups, scale = _count("carafe", group_size=group_size), _count("carafe", scale_factor=scale_factor)
    arguments.check_devices_and_types("carafe", features=features, masks=masks)
    n, channels, h, w = features.shape
    if channels % groups != 0:
        raise ValueError(
            f"carafe: expected the channels of features to be divisible by group_size, got {channels} channels and "
            f"group_size={groups}; take a divisor of {channels}"
        )
    form = "(N, group_size * kernel_size**2, scale_factor * H, scale_factor * W)"
    _check_shape("carafe", "masks", masks, (n, groups * kernel_size**2, scale * h, scale * w), form)
    options = {"kernel_size": kernel_size, "groups": groups, "scale": scale}
    return svconv2d(features, masks, normalize=False, taps="correlation", **options)


@_whole
def convex_upsample(flow: Tensor, mask: Tensor, factor: int = 8) -> Tensor:
    """RAFT's `upsample_flow` (Teed and Deng, ECCV 2020, Section 3.3): convex combinations of the values in coarse
    windows.

    Args:
        flow: (N, C, H, W), the tensor that is upsampled; RAFT passes `8 * flow`.
        mask: (N, K * K * factor**2, H, W), logits: for each tap a cell of factor x factor; K is 3 in RAFT, 5 in DUF.

    Returns:
        (N, C, factor * H, factor * W).
    """
    result = fast.convex_upsample(flow, mask, factor)
    if result is not None:
        return result
    factor = _count("convex_upsample", factor=factor)
    arguments.check_devices_and_types("convex_upsample", flow=flow, mask=mask)
    n, channels, h, w = mask.shape
    kernel_size = checks.odd_root(channels // factor**2)
    if kernel_size**2 * factor**2 != channels:
        raise ValueError(
            f"convex_upsample: expected a mask of K * K * {factor**2} channels, K odd, for factor={factor}, got "
            f"{channels}; predict {9 * factor**2} for K = 3"
        )
    if (flow.shape[0], *flow.shape[2:]) != (n, h, w):
        raise ValueError(
            f"convex_upsample: expected flow and mask of the same batch, height and width, got {tuple(flow.shape)} and "
            f"{tuple(mask.shape)}; predict the mask at the size of flow"
        )
    options = {"kernel_size": kernel_size, "dilation": 1, "groups": 1, "normalize": True, "padding_mode": "zeros"}
    options.update(taps="correlation", scale=factor, cells=factor > 1)
    return dispatch.select(None, flow, options, "convex_upsample")(flow, mask, None, options)


@_whole
def context_upsample(disp_low: Tensor, up_weights: Tensor, scale_factor: int = 4) -> Tensor:
    """FoundationStereo's and IGEV-Stereo's `context_upsample` (Xu et al., "IGEV", CVPR 2023).

    Args:
        disp_low: (B, 1, H, W).
        up_weights: (B, 9, scale_factor * H, scale_factor * W), normalised.

    Returns:
        (B, scale_factor * H, scale_factor * W).
    """
    scale = _count("context_upsample", scale_factor=scale_factor)
    arguments.check_devices_and_types("context_upsample", disp_low=disp_low, up_weights=up_weights)
    n, channels, h, w = disp_low.shape
    if channels != 1:
        raise ValueError(
            f"context_upsample: expected disp_low of one channel, got {channels}; call svconv2d with scale={scale} for "
            "more"
        )
    form = "(B, 9, scale_factor * H, scale_factor * W)"
    _check_shape("context_upsample", "up_weights", up_weights, (n, 9, scale * h, scale * w), form)
    options = {"kernel_size": 3, "normalize": False, "taps": "correlation", "scale": scale}
    return svconv2d(disp_low, up_weights, **options).squeeze(1)


@_whole
def adaptive_conv(padded: Tensor, filters: Tensor) -> Tensor:
    """FeatUp's `AdaptiveConv.apply` (Fu et al., "FeatUp", ICLR 2024): the sum in its joint bilateral upsampler.

    Args:
        padded: (N, C, H + K - 1, W + K - 1), padded by the caller. If that is by reflection, `svconv2d` with
            `padding_mode="reflect"` on the unpadded input saves the padding.
        filters: (N, H, W, K, K), K odd.

    Returns:
        (N, C, H, W).
    """
    forms = "(N, C, H + K - 1, W + K - 1)", "(N, H, W, K, K)"
    arguments.check_devices_and_types("adaptive_conv", *forms, padded=padded, filters=filters)
    kernel_size = int(filters.shape[-1])  # torch.jit.trace has tensors for sizes
    expected = filters.shape[0], *(side + kernel_size - 1 for side in filters.shape[1:3]), kernel_size
    if (padded.shape[0], *padded.shape[2:], filters.shape[3]) != expected:
        raise ValueError(
            f"adaptive_conv: expected filters of (N, H, W, K, K) and padded of H + K - 1 rows and W + K - 1 columns, "
            f"got {tuple(filters.shape)} and {tuple(padded.shape)}; pad by K // 2 on every side"
        )
    checks.check_odd("adaptive_conv", kernel_size)
    margin = kernel_size // 2
    weights = F.pad(filters.flatten(3).permute(0, 3, 1, 2), (margin,) * 4)
    out = svconv2d(padded, weights, kernel_size=kernel_size, normalize=False, taps="correlation")
    return F.pad(out, (-margin,) * 4)


def _count(function: str, **given: object) -> int:
    """Check the one argument that is given, by name, and return it."""
    ((name, value),) = given.items()
    return checks.count(function, name, value, arguments.SYMBOLS)


def _check_shape(function: str, name: str, tensor: Tensor, expected: tuple[int, ...], form: str) -> None:
    if tuple(tensor.shape) != expected:
        raise ValueError(
            f"{function}: expected {name} of shape {form} = {expected}, got {tuple(tensor.shape)}; predict "
            f"{expected[1]} channels of {expected[2]} x {expected[3]}"
        )


def _check_window(function: str, name: str, tensor: Tensor, *, kernel_size: int, dilation: int) -> None:
    """Raise unless a neighbourhood fits the frame of a tensor of heads."""
    height, width = tensor.shape[2:4]
    least = kernel_size * dilation
    if height < least or width < least:
        raise ValueError(
            f"{function}: expected {name} of at least {least} rows and columns (kernel_size * dilation), got {height} "
            f"x {width}; take a smaller kernel_size or dilation"
        )


def _check_default(function: str, **given: object) -> None:
    """Raise unless these are as they are by default: None or False."""
    for name, value in given.items():
        if value is not None and value is not False:
            got = type(value).__name__ if isinstance(value, Tensor) else repr(value)
            mend = "add its bias to the result, one for each tap" if name == "rpb" else "leave it out"
            raise ValueError(f"{function}: expected {name} as it is by default, got {got}; {mend}")


def _check_alike(function: str, **sizes: tuple[int, ...]) -> None:
    """Raise unless both sizes are the same. Heads become images here, so the check of images would let another batch
    pass."""
    (first, one), (second, other) = sizes.items()
    if one != other:
        raise ValueError(
            f"{function}: expected {first} and {second} of the same batch, heads, height and width, got {tuple(one)} "
            f"and {tuple(other)}; give both of one image and size"
        )


def _neighbourhood(function: str, kernel_size: object, dilation: object) -> dict[str, int]:
    """Check both sizes and return them by name."""
    sizes = {"kernel_size": kernel_size, "dilation": dilation}
    for name, size in sizes.items():
        if isinstance(size, (tuple, list)):
            if len(size) != 2 or size[0] != size[1]:
                raise ValueError(
                    f"{function}: expected {name} to be a number or the same twice, got {size!r}; take one"
                )
            sizes[name] = size[0]
    sizes = {name: _count(function, **{name: size}) for name, size in sizes.items()}
    checks.check_odd(function, sizes["kernel_size"])
    return sizes


def _to_channels(tensor: Tensor) -> Tensor:
    """(B, heads, H, W, D) -> (B * heads, D, H, W), channels last: each head is an image, and nothing is copied."""
    return tensor.flatten(0, 1).permute(0, 3, 1, 2)


def _from_channels(out: Tensor, like: Tensor) -> Tensor:
    return out.permute(0, 2, 3, 1).unflatten(0, like.shape[:2])
