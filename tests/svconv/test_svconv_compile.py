"""The operator in programs that PyTorch traces: torch.compile, torch.export, AOTInductor, ONNX."""

import os
import subprocess
import sys
from functools import partial

import numpy
import onnxruntime
import pytest
import torch
from svconv_cases import LAYOUTS, TESTED, Case, run
from torch.export import Dim

from svconv import SVConv2d, correlation2d, ops, reference, slices, svconv2d

DYNAMIC = {0: Dim("n"), 2: Dim("h"), 3: Dim("w")}
CASE = Case((2, 4, 5, 7), kernel_size=3, dilation=2, groups=2, padding_mode="renormalize")
OTHER_SIZE = Case((3, 4, 8, 6), kernel_size=3, dilation=2, groups=2, padding_mode="renormalize")


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    # Deterministic mode makes the compiler fill memory too; what is compiled here is what users compile.
    torch.use_deterministic_algorithms(False)


class Model(torch.nn.Module):
    """Work of the compiler's own before and after the operator."""

    def __init__(self, **options):
        super().__init__()
        self.propagate = SVConv2d(**options)

    def forward(self, input, logits):
        return self.propagate(input * 1.5, logits).relu()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_graph_serves_all_sizes_and_keeps_layouts(layout, device):
    model = Model(**CASE.options)
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for case in (CASE, OTHER_SIZE):
            tensors = [t.contiguous(memory_format=LAYOUTS[layout]) for t in case.tensors(device)]
            for got, want in zip(run(compiled, *tensors), run(model, *tensors), strict=True):
                torch.testing.assert_close(got, want)
                assert got.stride() == want.stride()


def test_sizes_marked_dynamic_compile_once(device):
    model = Model(**CASE.options)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for case in (CASE, OTHER_SIZE):
            input, logits, _ = case.tensors(device)
            for tensor in (input, logits):
                for dim in DYNAMIC:
                    torch._dynamo.mark_dynamic(tensor, dim)
            torch.testing.assert_close(compiled(input, logits), model(input, logits))


@pytest.mark.parametrize("strict", [True, False])
def test_exported_program_holds_one_operator_and_runs_at_any_size(strict, device):
    model = Model(**CASE.options)
    input, logits, _ = CASE.tensors(device)
    program = torch.export.export(
        model, (input, logits), dynamic_shapes={"input": DYNAMIC, "logits": DYNAMIC}, strict=strict
    )
    operators = [node.target for node in program.graph.nodes if "svconv" in str(node.target)]
    assert operators == [TESTED["products"].forward]
    for case in (CASE, OTHER_SIZE):
        input, logits, _ = case.tensors(device)
        assert torch.equal(program.module()(input, logits), model(input, logits))


CALLS = {
    "correlation2d": lambda input, _: correlation2d(input, input, kernel_size=3),
    "correlation2d under autocast": lambda input, _: under_autocast(correlation2d, input, input.bfloat16()),
    "svconv2d of two types under autocast": lambda input, logits: under_autocast(svconv2d, input, logits.bfloat16()),
    "svconv2d with out": lambda input, logits: svconv2d(
        input, logits, kernel_size=3, backend="reference", out=torch.empty_like(input)
    ),
}


def under_autocast(function, *tensors):
    with torch.autocast("cpu", torch.bfloat16):
        return function(*tensors, kernel_size=3)


class Call(torch.nn.Module):
    def __init__(self, call):
        super().__init__()
        self.call = call

    def forward(self, *tensors):
        return self.call(*tensors)


@pytest.mark.parametrize("call", CALLS)
def test_what_a_compiler_cannot_ask_of_autocast_is_no_part_of_the_trace(call, monkeypatch):
    """torch 2.10 can't trace `torch.amp.is_autocast_available`; the one here breaks every trace."""
    ask = torch.amp.is_autocast_available

    def untraceable(device_type):
        torch._dynamo.graph_break()
        return ask(device_type)

    input, logits = torch.randn(1, 4, 5, 6), torch.randn(1, 9, 5, 6)
    want = CALLS[call](input, logits)
    monkeypatch.setattr(torch.amp, "is_autocast_available", untraceable)
    with torch.no_grad():
        compiled = torch.compile(CALLS[call], fullgraph=True, backend="aot_eager")(input, logits)
        exported = torch.export.export(Call(CALLS[call]), (input, logits), strict=True).module()(input, logits)
    assert torch.equal(compiled, want) and torch.equal(exported, want)


@pytest.mark.parametrize("function", [svconv2d, correlation2d])
def test_symbolic_trace_records_the_call(function):
    def model(input, other):
        return function(input * 2, other, kernel_size=3) + 1

    graph = torch.fx.symbolic_trace(model)
    assert function in {node.target for node in graph.graph.nodes}
    for height in (5, 8):
        input = torch.randn(1, 4, height, 6)
        other = input if function is correlation2d else torch.randn(1, 9, height, 6)
        assert torch.equal(graph(input, other), model(input, other))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "case", [CASE, Case(), Case(kernel_size=3, normalize=False), Case(kernel_size=3, groups=2, tap_major=True)], ids=str
)
def test_the_module_can_be_scripted_and_saved(case, tmp_path):
    input, logits, _ = case.tensors()
    module = SVConv2d(**case.options)
    torch.jit.script(Model(**case.options)).save(tmp_path / "model.pt")
    loaded = torch.jit.load(tmp_path / "model.pt")
    assert torch.equal(loaded(input, logits), module(input * 1.5, logits).relu())
    assert torch.equal(torch.fx.symbolic_trace(module)(input, logits), module(input, logits))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dilation": 2, "padding_mode": "reflect"}, "a dilation of 1 .* got 2; use torch.jit.trace"),
        ({"dilation": 3, "padding_mode": "replicate"}, "a dilation of 1 .* got 3; use torch.jit.trace"),
        ({"dilation": 2, "scale": 2}, "a dilation of 1 .* got 2; use torch.jit.trace"),
        ({"backend": "reference"}, "backend None, 'cpu' or 'cuda' .* got 'reference'; leave it out"),
    ],
)
def test_what_scripts_cannot_do_is_refused_when_they_are_made(options, words):
    module = SVConv2d(3, **options)
    for whole in (module, torch.nn.Sequential(module)):
        with pytest.raises(ValueError, match=f"^SVConv2d: expected {words}"):
            torch.jit.script(whole)


def test_export_at_a_fixed_size(device):
    model = Model(**CASE.options)
    input, logits, _ = CASE.tensors(device)
    assert torch.equal(torch.export.export(model, (input, logits)).module()(input, logits), model(input, logits))


def test_compiled_package_runs_in_a_fresh_process(tmp_path, device):
    """AOTInductor: the process that loads it imports `svconv.ops` and neither the model nor its code."""
    model = SVConv2d(**CASE.options)
    input, logits, _ = CASE.tensors(device)
    program = torch.export.export(model, (input, logits), dynamic_shapes={"input": DYNAMIC, "logits": DYNAMIC})
    torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "model.pt2"))
    input, logits, _ = OTHER_SIZE.tensors(device)
    torch.save((input, logits, model(input, logits)), tmp_path / "expected.pt")
    loader = (
        "import sys, torch, svconv.ops; model = torch._inductor.aoti_load_package(sys.argv[1]); "
        "*inputs, want = torch.load(sys.argv[2]); assert torch.equal(model(*inputs), want)"
    )
    subprocess.run([sys.executable, "-c", loader, tmp_path / "model.pt2", tmp_path / "expected.pt"], check=True)


def test_compiled_autograd_of_an_eager_forward():
    """Options are numbers to the compiler: what it made of the first must not serve the others."""

    with torch._dynamo.config.patch(compiled_autograd=True):
        backward = torch.compile(torch.Tensor.backward, backend="aot_eager")
    for dilation, kernel_size in ((1, 3), (2, 3), (1, 5)):
        case = Case((2, 4, 5, 7), kernel_size, dilation)
        input, logits, grad_out = case.tensors()
        _, *want = run(svconv2d, input, logits, grad_out, **case.options)
        backward((svconv2d(input.requires_grad_(), logits.requires_grad_(), **case.options) * grad_out).sum())
        torch.testing.assert_close([input.grad, logits.grad], want)


def to_onnx(model, tensors=(), **kwargs):
    """The session of a module, or of an exported program, which must be made of standard operators alone."""
    program = torch.onnx.export(model, tuple(tensors), dynamo=True, verbose=False, **kwargs)
    assert {node.domain for node in program.model_proto.graph.node} <= {"", "ai.onnx"}
    assert not program.model_proto.functions
    return onnxruntime.InferenceSession(program.model_proto.SerializeToString())


def run_onnx(session, *tensors):
    names = [argument.name for argument in session.get_inputs()]
    inputs = {name: numpy.from_dlpack(tensor) for name, tensor in zip(names, tensors, strict=True)}
    return torch.from_numpy(session.run(None, inputs)[0])


ONNX = [
    Case((2, 4, 5, 7), kernel_size=3),
    Case((2, 4, 5, 7), kernel_size=3, dilation=6, groups=2, padding_mode="renormalize"),
    Case((1, 3, 6, 4), kernel_size=3, normalize=False),
    Case((1, 3, 6, 4), kernel_size=1, padding_mode="renormalize"),
    Case((1, 4, 5, 7), kernel_size=3, dtype=torch.float16),
]


@pytest.mark.parametrize("case", ONNX, ids=str)
def test_onnx_of_every_option(case):
    model = Model(**case.options)
    input, logits, _ = case.tensors()
    got, want = run_onnx(to_onnx(model.eval(), (input, logits)), input, logits), model(input, logits)
    # The runtime may keep float32 where the model rounds `input * 1.5` to float16.
    tolerance = 8 * torch.finfo(case.dtype).eps
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


def test_onnx_of_dynamic_sizes():
    model = Model(**CASE.options)
    session = to_onnx(model, CASE.tensors()[:2], dynamic_shapes={"input": DYNAMIC, "logits": DYNAMIC})
    for case in (CASE, OTHER_SIZE):
        input, logits, _ = case.tensors()
        torch.testing.assert_close(run_onnx(session, input, logits), model(input, logits))


def raw(operator):
    """A call of a raw operator, on what a forward makes of the same tensors."""

    def call(input, logits):
        raw_options = CASE.kernel_size, CASE.dilation, CASE.groups, True, True
        out, lse = torch.ops.svconv.forward(input, logits, *raw_options)
        tensors = {
            "forward": (input, logits),
            "grad_input": (out, logits, lse),
            "grad_weight": (out, input, logits, lse),
        }
        result = getattr(torch.ops.svconv, operator)(*tensors[operator], *raw_options)
        return result[0] if operator == "forward" else result

    return call


# Made in the test: Triton's interpreter collects this file where there is no backend "cpu".
PROGRAMS = {
    "module": lambda: SVConv2d(**CASE.options),
    "module of one backend": lambda: SVConv2d(**CASE.options, backend="cpu"),
    "correlation2d of one backend": lambda: (
        lambda input, _: correlation2d(input, input, kernel_size=3, groups=2, backend="cpu")
    ),
    **{operator: partial(raw, operator) for operator in ("forward", "grad_input", "grad_weight")},
}


@pytest.mark.sample(5)
@pytest.mark.parametrize("exported", [True, False], ids=["program", "module"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_onnx_of_exported_programs_of_one_backend_and_of_raw_operators(name, exported):
    model, sizes = Call(PROGRAMS[name]()).eval(), {"tensors": (DYNAMIC, DYNAMIC)}
    tensors = CASE.tensors()[:2]
    with torch.no_grad():
        if exported:
            session = to_onnx(torch.export.export(model, tuple(tensors), dynamic_shapes=sizes))
        else:
            session = to_onnx(model, tensors, dynamic_shapes=sizes)
        for case in (CASE, OTHER_SIZE):
            input, logits, _ = case.tensors()
            torch.testing.assert_close(run_onnx(session, input, logits), model(input, logits), rtol=1e-4, atol=1e-5)


RAW_CASES = [
    Case((2, 4, 5, 7), 3, dilation, 2, normalize, padding_mode, dtype)
    for dilation, normalize, padding_mode in ((1, True, "zeros"), (3, True, "renormalize"), (2, False, "zeros"))
    for dtype in (torch.float64, torch.bfloat16)
] + [
    Case((2, 4, 10, 7), 3, dilation, padding_mode=padding_mode, dtype=torch.float64, taps=taps, scale=scale)
    for dilation, padding_mode, taps, scale in (
        (2, "shift", "correlation", 1),
        (1, "shift", "convolution", 2),
        (1, "reflect", "convolution", 1),
        (1, "replicate", "correlation", 3),
    )
]


@pytest.mark.parametrize("case", RAW_CASES, ids=str)
def test_decompositions_are_the_operators(case):
    input, logits, grad_out = case.tensors()
    raw_options = case.kernel_size, case.dilation, case.groups, case.normalize, case.padding_mode == "renormalize"
    raw_options = *raw_options, False, *ops.raw_window(case.padding_mode, case.taps, case.scale)
    operators = TESTED["products"]
    out, lse = operators.forward(input, logits, *raw_options)
    tolerances = {} if case.dtype == torch.float64 else {"rtol": 2**-7, "atol": 2**-4}
    for operator, decomposition, tensors in (
        (operators.forward, slices.forward, (input, logits)),
        (operators.grad_input, slices.grad_input, (grad_out, logits, lse)),
        (operators.grad_weight, slices.grad_weight, (grad_out, input, logits, lse)),
    ):
        got, want = decomposition(*tensors, *raw_options), operator(*tensors, *raw_options)
        torch.testing.assert_close(got, want, **tolerances)


@pytest.mark.parametrize("case", [*ONNX[:4], Case(dilation=3, groups=4)], ids=str)
def test_slices_are_the_reference(case):
    tensors = [t.double() for t in case.tensors()]
    for got, want in zip(
        run(slices.svconv2d, *tensors, **case.kernel_options),
        run(reference.svconv2d, *tensors, **case.kernel_options),
        strict=True,
    ):
        torch.testing.assert_close(got, want)


COMPILED_IN_CI = """
import torch
from svconv import svconv2d
input, logits = torch.randn(1, 2, 5, 7, requires_grad=True), torch.randn(1, 9, 5, 7, requires_grad=True)
compiled = torch.compile(svconv2d, fullgraph=True)
torch.testing.assert_close(compiled(input, logits, kernel_size=3), svconv2d(input, logits, kernel_size=3))
compiled(input, logits, kernel_size=3).square().sum().backward()
"""


def test_compiles_where_the_environment_says_ci():
    """Inductor refuses there to fall back on an operator that torch's tables have a decomposition of."""
    env = {**os.environ, "CI": "true"}
    subprocess.run([sys.executable, "-c", COMPILED_IN_CI], check=True, env=env, timeout=300)


def test_slices_stand_in_during_onnx_export_only():
    input, logits, _ = CASE.tensors()
    with pytest.raises(ValueError, match="ONNX"):
        svconv2d(input, logits, **CASE.options, backend="slices")
