"""The CUDA kernels, simulated, against the reference in float64: every kernel, type, layout and option; the same bits
in every order of threads; no report of the sanitizers."""

from contextlib import nullcontext
from dataclasses import astuple, replace

import definition
import products
import pytest
import simulated
import svconv_cases
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from products import H200, PRODUCTS, SM_120, TF32, TYPES, Launch, check
from simulated import SimulatorError
from svconv_cases import Case, NotFinite, assert_close, expected
from test_svconv_definition import problems

from benchmarks import tune
from svconv import slices, windows

KERNEL_SIZES = (1, 3, 5, 7, 9, 11, 13, 15)
# The least and the largest of specialised kernels; in tf32 K = 3 stays exact.
SIZES = {"fma": (3, 9), "tf32": (5, 9), "band": (3, 13)}

# Off and on the width of tiles, vectors and chunks of channels; frames smaller than a tile and than the kernel.
CASES = (
    Case((2, 20, 11, 19)),
    Case((1, 40, 6, 36), padding_mode="renormalize"),
    Case((1, 72, 5, 16), normalize=False, groups=2),
    Case((1, 10, 9, 21), dilation=2, groups=2, padding_mode="renormalize"),
    Case((2, 3, 13, 5), dilation=3),
    Case((1, 2, 1, 1), groups=2, normalize=False, dilation=2),
)
TYPE_NAMES = [str(dtype).removeprefix("torch.") for dtype in TYPES]
BY_TYPE = pytest.mark.parametrize(
    "dtype, device", [*((dtype, H200) for dtype in TYPES), (torch.float32, TF32)], ids=[*TYPE_NAMES, "tf32"]
)
BY_PRODUCT = pytest.mark.parametrize("product", PRODUCTS)


def table_of_launches() -> list[tuple[bool, Launch]]:
    """Return the rows of csrc/cuda/launches.csv: whether for grad_weight, and the launch."""
    launches = []
    for row in tune.table():
        for splits in (1, 3) if row.product == "sums" else (1,):
            launches.append((row.product == "gradient", Launch(*astuple(row.launch(splits)))))
    return launches


@pytest.fixture(scope="session")
def program():
    program = simulated.Program(simulated.build(products.sources()))
    yield program
    program.close()


@pytest.mark.sample(9)
@BY_TYPE
@BY_PRODUCT
@pytest.mark.parametrize("kernel_size", KERNEL_SIZES)
def test_products_match_the_reference(program, product, kernel_size, dtype, device):
    for case in CASES:
        for layout in ("nchw", "channels_last"):
            check(program, replace(case, kernel_size=kernel_size, dtype=dtype), product, layout, device)


@pytest.mark.sample(5)
@BY_TYPE
@BY_PRODUCT
@pytest.mark.parametrize("layout", ["view", "channels_last_view", "wide_strides"])
def test_products_take_any_strides(program, product, layout, dtype, device):
    for case in (Case((2, 12, 6, 20)), Case((1, 16, 7, 12), 5, dilation=2)):
        check(program, replace(case, dtype=dtype), product, layout, device)


@pytest.mark.sample(5)
@BY_TYPE
@BY_PRODUCT
@pytest.mark.parametrize("layout", ["nchw/channels_last", "channels_last/nchw", "channels_last_view/nchw"])
def test_tensors_may_differ_in_layout(program, product, layout, dtype, device):
    check(program, Case((1, 40, 6, 20), 7, dtype=dtype), product, layout, device)


class Steep(Case):
    """Logits so far apart that a softmax holds ones and zeros, and whose exponentials overflow."""

    def tensors(self):
        input, logits, grad_out = super().tensors()
        return [input, logits * 300, grad_out]


@BY_TYPE
@BY_PRODUCT
@pytest.mark.parametrize("kernel_size", [5, 13])
def test_steep_logits(program, product, kernel_size, dtype, device):
    case = Steep((1, 10, 6, 13), kernel_size, dtype=dtype)
    _, got, *_ = products.run(program, case, product, "nchw", device, "forward")
    want = expected(case)[PRODUCTS.index(product)]
    # The log-sum-exp is near a thousand and rounds accordingly.
    torch.testing.assert_close(got.double(), want, rtol=4 * torch.finfo(dtype).eps, atol=1e-3 * want.abs().max().item())


@pytest.mark.sample(11)
@BY_TYPE
@BY_PRODUCT
@pytest.mark.parametrize("kernel_size", [3, 5, 9, 11, 13])
@pytest.mark.parametrize("layout", ["nchw", "channels_last"])
def test_nan_and_infinity_are_never_lost(program, product, layout, kernel_size, dtype, device):
    check(program, NotFinite((1, 40, 9, 20), kernel_size, dtype=dtype), product, layout, device, ["forward"])


@pytest.mark.sample(9)
@pytest.mark.parametrize(
    "kernel_size, layout, dtype",
    [
        (3, "nchw", torch.float16),
        (9, "channels_last", torch.bfloat16),
        (11, "nchw", torch.bfloat16),
        (13, "channels_last", torch.float16),
    ],
    ids=str,
)
@pytest.mark.parametrize("gradient, launch", table_of_launches(), ids=str)
def test_every_launch_of_the_table_gives_the_same_answers(program, gradient, launch, kernel_size, layout, dtype):
    least, most = SIZES[launch.path]
    case = Case((1, 104, 18, 36), min(max(kernel_size, least), most), dtype=dtype)
    if launch.path in ("fma", "tf32"):
        case = replace(case, dtype=torch.float32)
    too_large = case.kernel_size > 9 and launch.columns * launch.rows > 8
    for product in PRODUCTS[2:] if gradient else PRODUCTS[:2]:
        # The table's choice leaves it out; the device refuses it.
        with pytest.raises(SimulatorError, match="invalid value") if too_large else nullcontext():
            check(program, case, product, layout, launch, ["reverse"])


@BY_PRODUCT
@pytest.mark.parametrize("layout", ["nchw", "channels_last"])
def test_the_launch_is_the_cheapest_of_the_table_by_the_table_of_costs(program, product, layout):
    costs = astuple(tune.read_costs())
    for case in (Case((1, 104, 18, 36), 9, dtype=torch.bfloat16), Case((2, 72, 9, 64), 5)):
        ran = check(program, case, product, layout, H200, ["forward"])
        chunks = -(-case.shape[1] // 32)
        prices = {}
        for row in tune.table():
            if row.path == ran.path and (row.product == "gradient") == (product == "grad_weight"):
                for splits in range(1, chunks + 1) if row.product == "sums" else (1,):
                    launch = Launch(*astuple(row.launch(splits)))
                    counts = products.work(program, case, product, layout, H200, launch)
                    prices[launch] = sum(cost * count for cost, count in zip(costs, counts, strict=True))
        assert prices[ran] == min(prices.values())


@pytest.mark.sample(5)
@BY_TYPE
@BY_PRODUCT
@pytest.mark.parametrize("kernel_size", [5, 9, 11, 13])
def test_specialised_kernels_fit_every_architecture(program, product, kernel_size, dtype, device):
    device = replace(SM_120, tf32=device.tf32)
    ran = check(program, Case((1, 40, 6, 36), kernel_size, dtype=dtype), product, "nchw", device, ["forward"])
    float32 = "tf32" if device.tf32 else "fma"
    path = {torch.float32: float32, torch.float64: "generic"}.get(dtype, "band")
    assert ran.path == ("generic" if path in SIZES and kernel_size > SIZES[path][1] else path)


@BY_PRODUCT
@pytest.mark.parametrize("kernel_size", KERNEL_SIZES)
def test_tf32_is_taken_where_it_is_asked_for_and_pays(program, product, kernel_size):
    for dtype, device in ((torch.float32, TF32), (torch.float32, H200), (torch.float16, TF32), (torch.float64, TF32)):
        ran, *_ = products.run(
            program, Case((1, 3, 2, 9), kernel_size, dtype=dtype), product, "nchw", device, "forward"
        )
        pays = SIZES["tf32"][0] <= kernel_size <= SIZES["tf32"][1]
        assert (ran.path == "tf32") == (dtype == torch.float32 and device is TF32 and pays)


class Single(Case):
    """The weight of the centre is 1, all others 0; the data are four numbers over and over."""

    HALF = 2.0**-11  # a unit of tf32
    NUMBERS = (1 + HALF, 1 + HALF * 0.999, -1 - HALF, 3.0)
    ROUNDED = (1 + 2 * HALF, 1.0, -1 - 2 * HALF, 3.0)

    def tensors(self):
        input, logits, grad_out = super().tensors()
        logits = torch.zeros_like(logits)
        logits[:, self.kernel_size**2 // 2] = 1
        data = torch.tensor(self.NUMBERS).repeat(input.shape[-1] // 4).expand_as(input)
        return [data, logits, data]


@pytest.mark.parametrize("product", PRODUCTS[:2])
@pytest.mark.parametrize("layout", ["nchw", "channels_last"])
def test_tf32_rounds_to_nearest(program, product, layout):
    case = Single((1, 8, 5, 12), 5, normalize=False)
    _, got, *_ = products.run(program, case, product, layout, TF32, "forward")
    assert (got == torch.tensor(case.ROUNDED).repeat(3)).all()


@BY_TYPE
@BY_PRODUCT
def test_the_generic_kernel_takes_everything(program, product, dtype, device):
    for case in (Case((1, 6, 7, 9), 3), Case((1, 6, 7, 9), 9, 2, 2, True, "renormalize")):
        check(program, replace(case, dtype=dtype), product, "channels_last", Launch("generic"))


# A path's kernels, and the types that they don't compute: a launch that puts the two together must not run.
FOREIGN = {"fma": TYPES[1:], "tf32": TYPES[1:], "band": TYPES[:2]}


@BY_PRODUCT
@pytest.mark.parametrize("path", FOREIGN)
def test_a_path_refuses_the_types_that_it_does_not_compute(program, product, path):
    for dtype in FOREIGN[path]:
        with pytest.raises(SimulatorError, match="invalid value"):
            check(
                program, Case((1, 6, 7, 9), 5, dtype=dtype), product, "nchw", Launch(path, 1, 1, stages=2), ["forward"]
            )


@BY_PRODUCT
@pytest.mark.parametrize("launch", [H200, TF32, *(Launch(path, 1, 1, stages=2) for path in products.PATHS)], ids=str)
def test_an_unknown_type_is_an_error_not_bfloat16(program, product, launch, monkeypatch):
    case = Case((1, 6, 7, 9), 5, dtype=torch.bfloat16)
    # The number that the kernels get is bfloat16's and one more.
    monkeypatch.setattr(products, "TYPES", (None, *TYPES))
    with pytest.raises(SimulatorError, match="invalid value"):
        check(program, case, product, "nchw", launch, ["forward"])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shape=st.tuples(*(st.integers(1, most) for most in (2, 70, 20, 45))),
    kernel_size=st.sampled_from(KERNEL_SIZES),
    dilation=st.integers(1, 3),
    groups=st.sampled_from((1, 1, 2, 3)),
    normalize=st.booleans(),
    padding_mode=st.sampled_from(("zeros", "renormalize")),
    dtype=st.sampled_from(TYPES),
    layout=st.sampled_from(("nchw", "channels_last", "view", "channels_last_view")),
    device=st.sampled_from((H200, SM_120, TF32)),
    product=st.sampled_from(PRODUCTS),
    order=st.sampled_from(tuple(simulated.ORDERS)),
)
def test_any_problem(program, shape, layout, device, product, order, groups, normalize, padding_mode, **options):
    n, depth, h, w = shape
    case = Case((n, depth * groups, h, w), groups=groups, normalize=normalize, **options)
    case = replace(case, padding_mode=padding_mode if normalize else "zeros")
    check(program, case, product, layout, device, [order])


@settings(max_examples=15, deadline=None, derandomize=True)
@given(case=problems(), device=st.sampled_from((H200, SM_120, TF32)))
def test_any_window_is_put_together_of_plain_ones(program, case, device):
    """Windows are put together as `svconv.dispatch` does it on a GPU, whose kernels read plain windows alone."""
    # In types whose gradients round no more than once, however many parts they are the sum of.
    case = replace(case, tap_major=False, dtype=torch.float64 if case.dtype == torch.float64 else torch.float32)
    if 0 in case.shape:
        return
    ran = []

    def plain(input, logits, **options):
        # A tensor's memory ends with its last element in no view.
        input, logits = input.contiguous(), logits.contiguous()
        assert windows.is_plain(**options)
        options = {name: value for name, value in options.items() if name not in ("taps", "scale")}
        part = Case(tuple(input.shape), **options, dtype=case.dtype)
        return products.Simulated.apply(input, logits, part, program, device, ran)

    def put_together(input, logits, **options):
        del options["tap_major"]
        if windows.is_plain(**options):
            return plain(input, logits, **options)
        return windows.svconv2d(plain, slices.svconv2d, input, logits, **options)

    got = svconv_cases.run(put_together, *case.tensors(), **case.options)
    want = svconv_cases.run(definition.svconv2d, *(t.double() for t in case.tensors()), **case.options)
    path = "tf32" if "tf32" in {launch.path for launch in ran} else "generic"
    for name, one, other in zip(svconv_cases.NAMES, got, want, strict=True):
        assert_close(case, name, one, other, path)


@pytest.fixture(scope="session")
def guarded():
    """The program of the kernels under AddressSanitizer and UndefinedBehaviorSanitizer."""
    program = simulated.Program(simulated.build(products.sources(), "address"))
    yield program
    program.close()


@pytest.mark.sample(9)
@BY_TYPE
@BY_PRODUCT
@pytest.mark.parametrize("kernel_size", [3, 9, 11, 13])
def test_nothing_is_read_or_written_out_of_bounds(guarded, product, kernel_size, dtype, device):
    cases = (
        (Case((1, 40, 6, 36), padding_mode="renormalize"), "nchw"),
        (Case((2, 16, 11, 12), groups=2), "channels_last"),
        (Case((1, 5, 7, 19), dilation=2), "view"),
    )
    for case, layout in cases:
        check(guarded, replace(case, kernel_size=kernel_size, dtype=dtype), product, layout, device, ["random"])


@pytest.fixture(scope="session")
def watched():
    """The program of the kernels under ThreadSanitizer."""
    program = simulated.Program(simulated.build(products.sources(), "thread"))
    yield program
    program.close()


@BY_TYPE
@BY_PRODUCT
def test_threads_do_not_race(watched, product, dtype, device):
    for case, layout in ((Case((1, 104, 9, 19), 5), "nchw"), (Case((1, 72, 5, 12), 5), "channels_last")):
        check(watched, replace(case, dtype=dtype), product, layout, device, ["forward"])
