"""What holds on NVIDIA GPUs beside all that holds on every device: graphs, streams, devices, repeatability. Collected
where there is a GPU and a build for it."""

import pytest
import torch
from svconv_cases import DTYPES, LAYOUTS, Case, check, run

from svconv import explain, svconv2d

BY_TYPE = pytest.mark.parametrize("dtype", DTYPES, ids=str)
# Clock cycles that keep a stream busy for a tenth of a second or more.
BUSY = 1 << 28


def tensors_of(case, layout="nchw", device="cuda"):
    return [t.contiguous(memory_format=LAYOUTS[layout]) for t in case.tensors(device)]


def step(case, tensors):
    """out, grad_input, grad_logits."""
    return run(svconv2d, *tensors, **case.options)


def test_tensors_choose_the_kernels():
    input, logits, _ = Case().tensors("cuda")
    assert explain(input, logits).chosen == "cuda"


@pytest.mark.parametrize("layout", LAYOUTS)
@BY_TYPE
def test_a_captured_graph_computes_anew_at_every_replay(dtype, layout):
    case = Case((1, 40, 18, 36), dtype=dtype)
    static = tensors_of(case, layout)
    warm_up = torch.cuda.Stream()
    warm_up.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(warm_up):
        step(case, static)
    torch.cuda.current_stream().wait_stream(warm_up)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step(case, static)
    for scale in (1, -0.5):
        for target, source in zip(static, tensors_of(case, layout), strict=True):
            target.copy_(source * scale)
        graph.replay()
        for got, want in zip(captured, step(case, static), strict=True):
            assert torch.equal(got, want)


@BY_TYPE
def test_calls_run_on_the_current_stream(dtype):
    """The tensors hold their numbers only once the stream gets there."""
    case = Case(dtype=dtype)
    sources = tensors_of(case)
    targets = [torch.zeros_like(t) for t in sources]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(BUSY)
        for target, source in zip(targets, sources, strict=True):
            target.copy_(source)
        results = step(case, targets)
    torch.cuda.current_stream().wait_stream(stream)
    for got, want in zip(results, step(case, sources), strict=True):
        assert torch.equal(got, want)


@BY_TYPE
def test_calls_return_before_a_busy_stream_gets_to_them(dtype):
    case = Case(dtype=dtype)
    tensors = tensors_of(case)
    # Memory and modules are there.
    step(case, tensors)
    torch.cuda.synchronize()
    torch.cuda._sleep(BUSY)
    step(case, tensors)
    reached = torch.cuda.Event()
    reached.record()
    assert not reached.query()
    torch.cuda.synchronize()


@pytest.mark.parametrize("index", range(torch.cuda.device_count()))
@BY_TYPE
def test_every_gpu_computes_whichever_is_current(dtype, index):
    case = Case(dtype=dtype)
    for current in {0, index}:
        with torch.cuda.device(current):
            check(case, *tensors_of(case, device=f"cuda:{index}"))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(1, 64, 45, 60), (1, 256, 45, 60), (2, 96, 64, 128)], ids=str)
@BY_TYPE
def test_results_repeat_bit_for_bit(dtype, shape, layout):
    case = Case(shape, dtype=dtype)
    tensors = tensors_of(case, layout)
    first = step(case, tensors)
    for _ in range(5):
        # Other work beside it must not show.
        other = torch.cuda.Stream()
        with torch.cuda.stream(other):
            torch.ones(1 << 22, device="cuda").cumsum(0)
        assert all(torch.equal(a, b) for a, b in zip(first, step(case, tensors), strict=True))


@pytest.fixture(params=["fp32_precision", "allow_tf32", "set_float32_matmul_precision"])
def tf32(request):
    """Each of torch's ways to ask for tf32; what was before comes back."""
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    if request.param == "fp32_precision":
        matmul.fp32_precision = "tf32"
    elif request.param == "allow_tf32":
        matmul.allow_tf32 = True
    else:
        torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision("highest")
    matmul.fp32_precision = before


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kernel_size", [3, 5, 7, 9, 11])
def test_float32_is_rounded_to_tf32_where_torch_is_asked_to(tf32, kernel_size, layout):
    case = Case((2, 40, 18, 36), kernel_size)
    tensors = tensors_of(case, layout)
    check(case, *tensors)
    rounded = step(case, tensors)
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    check(case, *tensors)
    same = [torch.equal(one, two) for one, two in zip(rounded, step(case, tensors), strict=True)]
    assert same == [kernel_size not in (5, 7, 9)] * 3
