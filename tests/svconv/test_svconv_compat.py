"""`svconv.compat`: each function against its published formula, on odd and tiny sizes, with both gradients; in ONNX."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from test_svconv_compile import Call, run_onnx, to_onnx
from torch.export import Dim

from svconv import compat


def starts(size, kernel_size, dilation):
    """The first row of every row's neighbourhood: of its residue class, moved inwards (Hassani and Shi, 2022)."""
    rows = []
    for row in range(size):
        phase, index, count = row % dilation, row // dilation, len(range(row % dilation, size, dilation))
        rows.append(phase + dilation * min(max(index - kernel_size // 2, 0), count - kernel_size))
    return torch.tensor(rows)


def neighbours(tensor, kernel_size, dilation):
    """(B, heads, H, W, D) -> (B, heads, H, W, K * K, D)."""
    steps = dilation * torch.arange(kernel_size)
    rows, columns = (starts(size, kernel_size, dilation)[:, None] + steps for size in tensor.shape[2:4])
    return tensor[:, :, rows][:, :, :, :, columns].transpose(3, 4).flatten(4, 5)


def na2d_qk(query, key, kernel_size, dilation=1):
    return torch.einsum("bnijd,bnijkd->bnijk", query, neighbours(key, kernel_size, dilation))


def na2d_av(attn, value, kernel_size, dilation=1):
    return torch.einsum("bnijk,bnijkd->bnijd", attn, neighbours(value, kernel_size, dilation))


def unfolded(tensor, kernel_size):
    n, c, h, w = tensor.shape
    return F.unfold(tensor, kernel_size, padding=kernel_size // 2).view(n, c, kernel_size**2, h, w)


def carafe(features, masks, kernel_size, group_size, scale_factor):
    n, c, h, w = features.shape
    fine = F.interpolate(unfolded(features, kernel_size).flatten(1, 2), scale_factor=scale_factor)
    fine = fine.view(n, group_size, c // group_size, kernel_size**2, scale_factor * h, scale_factor * w)
    return torch.einsum("ngckij,ngkij->ngcij", fine, masks.unflatten(1, (group_size, -1))).flatten(1, 2)


def convex_upsample(flow, mask, factor=8):
    n, c, h, w = flow.shape
    weights = mask.view(n, 1, -1, factor, factor, h, w).softmax(2)
    fine = (weights * unfolded(flow, round(weights.shape[2] ** 0.5))[:, :, :, None, None]).sum(2)
    return fine.permute(0, 1, 4, 2, 5, 3).reshape(n, c, factor * h, factor * w)


def context_upsample(disp_low, up_weights, scale_factor=4):
    return (F.interpolate(unfolded(disp_low, 3).squeeze(1), scale_factor=scale_factor) * up_weights).sum(1)


def adaptive_conv(padded, filters):
    n, h, w, K, _ = filters.shape
    taps = [(a, b) for a in range(K) for b in range(K)]
    return sum(padded[:, :, a : a + h, b : b + w] * filters[:, None, :, :, a, b] for a, b in taps)


def neighbourhood(kernel_size, dilation, *size):
    heads = (2, 3, *size)
    return [(*heads, 4), (*heads, 4)], [(*heads, kernel_size**2), (*heads, 4)], (kernel_size, dilation)


CASES = {}
for sizes in ((3, 1, 3, 3), (3, 2, 7, 6), (5, 1, 9, 11), (7, 1, 8, 7), (3, 3, 9, 13), (13, 1, 13, 15)):
    qk, av, options = neighbourhood(*sizes)
    CASES[f"na2d_qk {sizes}"] = na2d_qk, compat.na2d_qk, qk, options
    CASES[f"na2d_av {sizes}"] = na2d_av, compat.na2d_av, av, options
for n, c, h, w, k, groups, scale in (
    (2, 6, 5, 7, 5, 2, 2),
    (1, 4, 1, 1, 3, 1, 2),
    (1, 3, 4, 3, 5, 3, 3),
    (1, 2, 3, 2, 1, 1, 1),
):
    shapes = [(n, c, h, w), (n, groups * k**2, scale * h, scale * w)]
    CASES[f"carafe {shapes}"] = carafe, compat.carafe, shapes, (k, groups, scale)
for n, c, h, w, k, factor in ((1, 2, 5, 7, 3, 8), (2, 2, 3, 5, 3, 8), (1, 3, 4, 3, 5, 4), (2, 1, 1, 1, 3, 2)):
    shapes = [(n, c, h, w), (n, k**2 * factor**2, h, w)]
    CASES[f"convex_upsample {shapes}"] = convex_upsample, compat.convex_upsample, shapes, (factor,)
for n, h, w, scale in ((2, 5, 7, 4), (1, 1, 1, 4), (1, 3, 2, 2)):
    shapes = [(n, 1, h, w), (n, 9, scale * h, scale * w)]
    CASES[f"context_upsample {shapes}"] = context_upsample, compat.context_upsample, shapes, (scale,)
for n, c, h, w, k in ((2, 3, 6, 9, 7), (1, 5, 1, 1, 3), (1, 2, 2, 5, 11)):
    shapes = [(n, c, h + k - 1, w + k - 1), (n, h, w, k, k)]
    CASES[f"adaptive_conv {shapes}"] = adaptive_conv, compat.adaptive_conv, shapes, ()


def tensors_of(shapes, dtype):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_each_is_its_published_formula_with_both_gradients(name, dtype):
    definition, function, shapes, options = CASES[name]
    tensors = [t.requires_grad_() for t in tensors_of(shapes, dtype)]
    exact = [t.detach().double().requires_grad_() for t in tensors]
    out, want = function(*tensors, *options), definition(*exact, *options)
    assert out.dtype == dtype and out.shape == want.shape
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    results = out, *torch.autograd.grad(out, tensors, cotangent.to(dtype))
    expected = want, *torch.autograd.grad(want, exact, cotangent.to(dtype).double())
    for got, right in zip(results, expected, strict=True):
        tolerance = 16 * torch.finfo(dtype).eps * max(1, right.abs().max().item())
        torch.testing.assert_close(got.double(), right, rtol=0, atol=tolerance)


NATTEN = ((1, 2, 7, 9, 4), (1, 2, 7, 9, 9))


def test_pairs_that_are_the_same_twice_are_sizes():
    query, attn = tensors_of(NATTEN, torch.float32)
    assert torch.equal(compat.na2d_qk(query, query, (3, 3), (2, 2)), compat.na2d_qk(query, query, 3, 2))
    assert torch.equal(compat.na2d_av(attn, query, [3, 3]), compat.na2d_av(attn, query, 3))
    assert torch.equal(compat.na2d_qk(query, query, 3, 2, None, False, None), compat.na2d_qk(query, query, 3, 2))
    assert torch.equal(compat.na2d_av(attn, query, 3, 1, None, False), compat.na2d_av(attn, query, 3))
    for sizes in ((3, 5), (3, 3, 3)):
        with pytest.raises(ValueError, match="^na2d_av: expected kernel_size to be a number or the same twice"):
            compat.na2d_av(attn, query, sizes)


@pytest.mark.parametrize("name", {name.split()[0]: name for name in CASES}.values())
def test_each_is_traced_and_compiled_whole(name):
    _, function, shapes, options = CASES[name]
    tensors = tensors_of(shapes, torch.float32)

    def model(*tensors):
        return function(*tensors, *options) + 1

    want = model(*tensors)
    torch._dynamo.reset()
    for traced in (
        torch.compile(model, fullgraph=True, dynamic=True, backend="eager"),
        torch.fx.symbolic_trace(lambda first, second: model(first, second)),
        torch.jit.trace(model, tuple(tensors)),
    ):
        torch.testing.assert_close(traced(*tensors), want)


def test_windows_larger_than_the_frame_are_refused():
    query, attn = tensors_of(NATTEN, torch.float32)
    with pytest.raises(ValueError, match="at least 9 rows and columns.*got 7 x 9"):
        compat.na2d_qk(query, query, 3, 3)


def test_heads_are_read_as_they_lie():
    """Nothing is copied on the way to the kernels: heads are images with channels last."""
    query, attn = tensors_of(NATTEN, torch.float32)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        compat._to_channels(query), compat._to_channels(attn)
    assert not {event.key for event in profile.key_averages()} & {"aten::copy_", "aten::clone"}


N, H, W = Dim("n", max=64), Dim("h", min=5, max=64), Dim("w", min=5, max=64)


def exported(name):
    """A function, the shapes of its tensors at a batch, height and width, and which of those dimensions are free."""
    heads = {0: N, 2: H, 3: W}
    twice, four_times = ({0: N, 2: scale * H, 3: scale * W} for scale in (2, 4))
    return {
        "na2d_qk": (partial(compat.na2d_qk, kernel_size=3), lambda n, h, w: [(n, 2, h, w, 4)] * 2, [heads, heads]),
        "na2d_av": (
            partial(compat.na2d_av, kernel_size=3, dilation=1),
            lambda n, h, w: [(n, 2, h, w, 9), (n, 2, h, w, 4)],
            [heads, heads],
        ),
        "carafe": (
            partial(compat.carafe, kernel_size=5, group_size=2, scale_factor=2),
            lambda n, h, w: [(n, 4, h, w), (n, 50, 2 * h, 2 * w)],
            [heads, twice],
        ),
        "convex_upsample": (compat.convex_upsample, lambda n, h, w: [(n, 2, h, w), (n, 576, h, w)], [heads, heads]),
        "context_upsample": (
            compat.context_upsample,
            lambda n, h, w: [(n, 1, h, w), (n, 9, 4 * h, 4 * w)],
            [heads, four_times],
        ),
        "adaptive_conv": (
            compat.adaptive_conv,
            lambda n, h, w: [(n, 3, h + 2, w + 2), (n, h, w, 3, 3)],
            [{0: N, 2: H + 2, 3: W + 2}, {0: N, 1: H, 2: W}],
        ),
    }[name]


@pytest.mark.sample(5)
@pytest.mark.parametrize(
    "name", ["na2d_qk", "na2d_av", "carafe", "convex_upsample", "context_upsample", "adaptive_conv"]
)
def test_onnx_of_each_at_any_size(name):
    function, shapes, free = exported(name)
    model = Call(function).eval()
    session = to_onnx(model, tensors_of(shapes(2, 7, 9), torch.float32), dynamic_shapes={"tensors": tuple(free)})
    for size in ((2, 7, 9), (1, 6, 11), (3, 8, 5)):
        tensors = tensors_of(shapes(*size), torch.float32)
        torch.testing.assert_close(run_onnx(session, *tensors), model(*tensors), rtol=1e-4, atol=1e-5)


Z = torch.zeros
WRONG = {
    "a mask of other channels": (lambda: compat.convex_upsample(Z(1, 2, 5, 6), Z(1, 575, 5, 6)), "575; predict 576"),
    "a mask of no square of taps": (lambda: compat.convex_upsample(Z(1, 2, 5, 6), Z(1, 512, 5, 6)), "512; predict 576"),
    "a mask without a batch": (
        lambda: compat.convex_upsample(Z(1, 2, 5, 6), Z(576, 5, 6)),
        "expected mask of 4 dimensions .N, C, H, W., got .*; add the batch",
    ),
    "a mask of another size": (lambda: compat.convex_upsample(Z(1, 2, 5, 6), Z(1, 576, 5, 7)), "same batch, height"),
    "a mask of another batch": (lambda: compat.convex_upsample(Z(4, 2, 5, 6), Z(1, 576, 5, 6)), "same batch"),
    "an even window": (lambda: compat.convex_upsample(Z(1, 2, 5, 6), Z(1, 256, 5, 6)), "K odd, .* got 256"),
    "a mask of no taps": (lambda: compat.convex_upsample(Z(1, 2, 5, 6), Z(1, 0, 5, 6)), "K odd, .* got 0"),
    "no factor": (lambda: compat.convex_upsample(Z(1, 2, 5, 6), Z(1, 576, 5, 6), 0), "factor to be at least 1, got 0"),
    "flow of several channels": (lambda: compat.context_upsample(Z(1, 2, 5, 6), Z(1, 9, 20, 24)), "one channel, got 2"),
    "flat filters": (
        lambda: compat.adaptive_conv(Z(1, 2, 9, 10), Z(1, 5, 6, 25)),
        "expected filters of 5 dimensions .N, H, W, K, K.",
    ),
    "filters that are no squares": (lambda: compat.adaptive_conv(Z(1, 2, 9, 10), Z(1, 5, 6, 5, 3)), "K // 2 on every"),
    "padded by too little": (lambda: compat.adaptive_conv(Z(1, 2, 9, 9), Z(1, 5, 6, 5, 5)), "K // 2 on every"),
    "no heads": (lambda: compat.na2d_qk(Z(1, 5, 6, 8), Z(1, 5, 6, 8), 3), "query of 5 dimensions .B, heads, H, W, D."),
    "an oblong window": (
        lambda: compat.na2d_qk(Z(1, 2, 7, 8, 4), Z(1, 2, 7, 8, 4), (3, 5)),
        "the same twice, got .3, 5.",
    ),
    "other channels": (
        lambda: compat.na2d_qk(Z(1, 2, 7, 8, 4), Z(1, 2, 7, 8, 3), 3),
        "same channels a head, got 4 and 3",
    ),
    "a relative bias": (
        lambda: compat.na2d_qk(Z(1, 2, 7, 8, 4), Z(1, 2, 7, 8, 4), 3, rpb=Z(2, 5, 5)),
        "rpb as it is by default, got Tensor; add its bias to the result",
    ),
    "causal windows": (
        lambda: compat.na2d_av(Z(1, 2, 7, 8, 9), Z(1, 2, 7, 8, 4), 3, is_causal=True),
        "is_causal as it is by default, got True; leave it out",
    ),
    # Both hold four images of heads, in batches of 1 and 2: without a check heads would be paired wrongly.
    "another batch": (lambda: compat.na2d_av(Z(1, 4, 7, 8, 9), Z(2, 2, 7, 8, 4), 3), "same batch, heads, height"),
    "masks of another scale": (lambda: compat.carafe(Z(1, 4, 5, 6), Z(1, 25, 10, 12), 5, 1, 3), "1, 25, 15, 18"),
}


@pytest.mark.parametrize("call, words", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# The arguments of each function, right ones.
RIGHT = {
    "na2d_qk": {"query": Z(1, 2, 7, 8, 4), "key": Z(1, 2, 7, 8, 4), "kernel_size": 3, "dilation": 1},
    "na2d_av": {"attn": Z(1, 2, 7, 8, 9), "value": Z(1, 2, 7, 8, 4), "kernel_size": 3, "dilation": 1},
    "carafe": {
        "features": Z(1, 4, 5, 6),
        "masks": Z(1, 18, 10, 12),
        "kernel_size": 3,
        "group_size": 2,
        "scale_factor": 2,
    },
    "convex_upsample": {"flow": Z(1, 2, 5, 6), "mask": Z(1, 36, 5, 6), "factor": 2},
    "context_upsample": {"disp_low": Z(1, 1, 5, 6), "up_weights": Z(1, 9, 10, 12), "scale_factor": 2},
    "adaptive_conv": {"padded": Z(1, 2, 7, 8), "filters": Z(1, 5, 6, 3, 3)},
}
WRONG_TENSORS = (None, "3", [1.0], Z(2, 3), Z(9, 9, 9), Z(1, 1, 7, 8, 4, 1), Z(3, 5, 7, 9), Z(3, 5, 7, 9, 4))
WRONG_NUMBERS = ("3", 3.0, None, True, 0, -1, 97, 98, Z(40, 40))


def wrong_calls():
    for function, right in RIGHT.items():
        for argument, value in right.items():
            number = isinstance(value, int)
            also = () if number else (value.int(), value.double(), value.to("meta"), value.to_sparse(), value.numpy())
            for wrong in WRONG_NUMBERS if number else (*WRONG_TENSORS, *also):
                yield function, argument, wrong


@pytest.mark.parametrize("function", RIGHT)
def test_errors_speak_of_the_function_and_the_argument_that_were_given(function):
    getattr(compat, function)(**RIGHT[function])
    for name, argument, wrong in wrong_calls():
        if name != function:
            continue
        with pytest.raises((TypeError, ValueError), match=rf"(?s)^{function}: expected .*\b{argument}\b.*; ") as caught:
            getattr(compat, function)(**{**RIGHT[function], argument: wrong})
        text = str(caught.value)
        assert "logits" not in text and "padding_mode" not in text and len(text) < 400
        assert isinstance(caught.value, TypeError) or not isinstance(wrong, (str, float, list, bool))
