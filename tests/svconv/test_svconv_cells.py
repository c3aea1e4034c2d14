"""Logits that have channels for the places of a cell, as the masks of RAFT have: the raw operators on them are those on
the pixels that the cells become, whatever the window, the type, the layout and the instruction set."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from svconv_cases import DTYPES, LAYOUTS, NAMES, Case, assert_close, expected, run
from test_svconv_compile import Call, run_onnx, to_onnx
from torch.export import Dim
from torch.utils.flop_counter import FlopCounterMode

from svconv import compat, ops, reference, windows

# Fewer channels of a group than make a vector of them, and more; whole vectors of columns and parts of one; places that
# vectors take apart, and others.
CELLS = [
    Case((2, 2, 5, 19), 3, scale=8, taps="correlation"),
    Case((1, 3, 4, 33), 3, scale=4, groups=3, normalize=False),
    Case((1, 22, 3, 5), 3, scale=2, groups=2, padding_mode="renormalize", taps="correlation"),
    Case((2, 5, 6, 7), 5, scale=3, padding_mode="reflect"),
    Case((1, 4, 5, 6), 3, scale=5, groups=2, padding_mode="replicate", taps="correlation"),
    Case((1, 9, 7, 8), 5, scale=2, padding_mode="shift"),
    Case((1, 1, 1, 1), 3, scale=8),
    Case((1, 2, 3, 40), 1, scale=2, taps="correlation"),
]


def function_of(case):
    """svconv2d of an input and cells."""
    options = case.kernel_size, 1, case.groups, case.normalize, case.padding_mode == "renormalize"
    window = ops.raw_window(case.padding_mode, case.taps, case.scale, cells=True)
    return lambda input, cells: ops.forward(input, cells, *options, window=window)


def with_cells(case):
    input, logits, grad_out = case.tensors()
    return input, windows.to_cells(logits, case.scale), grad_out


def check_cells(case, *tensors):
    out, grad_input, grad_cells = run(function_of(case), *tensors)
    assert grad_cells.stride() == tensors[1].stride()
    results = out, grad_input, windows.to_pixels(grad_cells, case.scale)
    for name, got, want in zip(NAMES, results, expected(case), strict=True):
        assert_close(case, name, got, want)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_cells_become_pixels_row_by_row(scale):
    cells = torch.arange(2 * 5 * scale**2 * 3 * 4.0).reshape(2, 5 * scale**2, 3, 4)
    fine = windows.to_pixels(cells, scale)
    assert torch.equal(fine, torch.nn.functional.pixel_shuffle(cells, scale))
    assert torch.equal(windows.to_cells(fine, scale), cells)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CELLS, ids=str)
def test_cells_in_every_type_and_layout(case, dtype, layout):
    case = replace(case, dtype=dtype)
    check_cells(case, *(t.contiguous(memory_format=LAYOUTS[layout]) for t in with_cells(case)))


@pytest.mark.parametrize("case", CELLS, ids=str)
def test_cells_on_every_instruction_set(case, instruction_set):
    check_cells(case, *with_cells(case))


@pytest.mark.parametrize("case", CELLS[::2], ids=str)
def test_layouts_of_input_and_cells_may_differ(case):
    for layouts in (("channels_last", "nchw", "nchw"), ("nchw", "channels_last", "nchw")):
        tensors = zip(with_cells(case), layouts, strict=True)
        check_cells(case, *(tensor.contiguous(memory_format=LAYOUTS[layout]) for tensor, layout in tensors))


@pytest.mark.parametrize("case", [replace(case, shape=(1, 2 * case.groups, 5, 5)) for case in CELLS[:5]], ids=str)
def test_derivatives_of_cells(case):
    case = replace(case, scale=2, dtype=torch.float64)
    input, cells, _ = with_cells(case)
    input.requires_grad_(), cells.requires_grad_()
    function = function_of(case)
    assert torch.autograd.gradcheck(function, (input, cells), check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (input, cells), fast_mode=True)


def test_cells_repeat_bit_for_bit_whatever_the_number_of_threads():
    case = Case((1, 2, 33, 41), 3, scale=8, taps="correlation")
    tensors = with_cells(case)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 1, 2, 3, 7):
            torch.set_num_threads(count)
            results.append(run(function_of(case), *tensors))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], result, strict=True))


def test_a_window_among_infinities_and_nan_is_the_references():
    case = CELLS[0]
    input, cells, _ = with_cells(case)
    cells[0, :3, 1], cells[0, 70, 2, 3], cells[1, :: case.scale**2, 1, 2] = -torch.inf, torch.nan, 1e30
    want = reference.svconv2d(input.double(), windows.to_pixels(cells, case.scale).double(), **case.kernel_options)
    torch.testing.assert_close(function_of(case)(input, cells).double(), want, equal_nan=True, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(5, 7), (96, 61)], ids=str)
def test_convex_upsampling_without_derivatives_is_the_same(size, layout):
    flow, mask = (t.contiguous(memory_format=LAYOUTS[layout]) for t in upsampled(1, *size))
    with_derivatives = compat.convex_upsample(flow.requires_grad_(), mask, 2).detach()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            out = compat.convex_upsample(flow.detach(), mask, 2)
        assert torch.equal(out, with_derivatives) and out.stride() == with_derivatives.stride()


def test_convex_upsampling_in_transforms_of_functions():
    flow, mask = upsampled(3, 4, 5)
    function = partial(compat.convex_upsample, factor=2)
    with torch.no_grad():
        mapped = torch.func.vmap(function)(flow[:, None], mask[:, None])[:, 0]
        out, tangent = torch.func.jvp(function, (flow, mask), (flow, torch.zeros_like(mask)))
    torch.testing.assert_close(mapped, function(flow, mask))
    # It is linear in the flow.
    torch.testing.assert_close(tangent, out)


def test_opcheck_of_cells():
    case = replace(CELLS[2], dtype=torch.float32)
    input, cells, _ = with_cells(case)
    options = case.kernel_size, 1, case.groups, True, True, False
    window = ops.raw_window(case.padding_mode, case.taps, case.scale, cells=True)
    for tensors in ((input, cells), (input.requires_grad_(), cells.requires_grad_())):
        torch.library.opcheck(ops.COMPILED.forward, (*tensors, *options, *window))


def test_flops_of_cells_are_those_of_their_pixels():
    case = CELLS[0]
    n, c, h, w = case.shape
    input, cells, _ = with_cells(case)
    with FlopCounterMode(display=False) as counter:
        function_of(case)(input, cells)
    assert counter.get_total_flops() == 2 * n * c * (case.scale * h) * (case.scale * w) * case.kernel_size**2


def test_cells_of_a_wrong_shape_are_refused():
    case = CELLS[0]
    input, cells, _ = with_cells(case)
    for wrong in (cells[:, :-1], cells[..., :-1], windows.to_pixels(cells, case.scale)):
        with pytest.raises(RuntimeError, match="expected logits of shape"):
            function_of(case)(input, wrong)


N, H, W = Dim("n", max=64), Dim("h", min=3, max=64), Dim("w", min=3, max=64)
FREE = {0: N, 2: H, 3: W}


def upsampled(*sizes):
    generator = torch.Generator().manual_seed(0)
    n, h, w = sizes
    return tuple(torch.randn(shape, generator=generator) for shape in ((n, 2, h, w), (n, 36, h, w)))


def test_convex_upsampling_compiles_exports_and_is_onnx_at_any_size():
    function = partial(compat.convex_upsample, factor=2)
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    program = torch.export.export(Call(function), upsampled(2, 5, 7), dynamic_shapes={"tensors": (FREE, FREE)})
    assert [node.target for node in program.graph.nodes if "svconv" in str(node.target)] == [ops.COMPILED.forward]
    session = to_onnx(program)
    for sizes in ((2, 5, 7), (1, 6, 4)):
        tensors = upsampled(*sizes)
        grad_out = torch.ones(sizes[0], 2, 2 * sizes[1], 2 * sizes[2])
        for got, want in zip(run(compiled, *tensors, grad_out), run(function, *tensors, grad_out), strict=True):
            torch.testing.assert_close(got, want)
        torch.testing.assert_close(program.module()(*tensors), function(*tensors))
        torch.testing.assert_close(run_onnx(session, *tensors), function(*tensors), rtol=1e-4, atol=1e-5)
