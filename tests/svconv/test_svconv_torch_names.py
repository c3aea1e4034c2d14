"""The private names of torch that svconv uses do what svconv takes them to do, under the torch that runs this.

It needs torch and svconv/torch_private.py alone, neither pytest nor a build of svconv:

    python tests/svconv/test_svconv_torch_names.py
"""

import importlib.util
from pathlib import Path

import torch
from torch.autograd import forward_ad

_FILE = Path(__file__).parents[2] / "svconv" / "torch_private.py"
_spec = importlib.util.spec_from_file_location("torch_private", _FILE)
private = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(private)

library = torch.library.Library("svconv_names", "DEF")
library.define("cube(Tensor x) -> Tensor")
library.impl("cube", lambda x: x**3, "CompositeExplicitAutograd")
CUBE = torch.ops.svconv_names.cube.default


class Function(private.SingleLevelFunction):
    """The derivative of the operator, registered as svconv/ops.py registers those of its own."""

    keys: list[tuple] = []

    @staticmethod
    def _compiled_autograd_key(ctx):
        Function.keys.append(private.compiled_autograd_key(ctx))
        return Function.keys[-1]

    @staticmethod
    def forward(x, keyset):
        with torch.enable_grad(), private.set_forward_gradients(True), private.AutoDispatchBelowAutograd():
            return CUBE.redispatch(keyset & private.after_autograd, x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0])
        ctx.save_for_forward(inputs[0])
        assert isinstance(private.compiled_autograd_key(ctx)[0], int)

    @staticmethod
    def backward(ctx, grad):
        return grad * 3 * ctx.saved_tensors[0] ** 2, None

    @staticmethod
    def jvp(ctx, tangent, _):
        with private.set_forward_gradients(True):
            return tangent * 3 * forward_ad.unpack_dual(ctx.saved_tensors[0]).primal ** 2


def _autograd(keyset, x):
    with private.enable_single_level_autograd_function():
        return Function.apply(x, keyset)


library.impl("cube", _autograd, "Autograd", with_keyset=True)


def cube(x):
    return CUBE(x).sum()


X = torch.tensor([1.0, -2.0], dtype=torch.float64)


def test_a_function_of_one_level_has_derivatives_of_both_modes_and_of_any_order():
    (gradient,) = torch.autograd.grad(cube(x := X.clone().requires_grad_()), x, create_graph=True)
    assert gradient.tolist() == [3.0, 12.0]
    assert torch.autograd.grad(gradient.sum(), x)[0].tolist() == [6.0, -12.0]
    assert torch.func.grad(cube)(X).tolist() == [3.0, 12.0]
    assert torch.func.jacrev(torch.func.grad(cube))(X).diagonal().tolist() == [6.0, -12.0]
    assert torch.func.jvp(CUBE, (X,), (torch.ones_like(X),))[1].tolist() == [3.0, 12.0]
    assert torch.func.jvp(torch.func.grad(cube), (X,), (torch.ones_like(X),))[1].tolist() == [6.0, -12.0]


def test_calls_below_autograd_record_nothing():
    x = X.clone().requires_grad_()
    assert (x * 2).requires_grad
    with private.AutoDispatchBelowAutograd():
        assert not (x * 2).requires_grad


def test_keysets_leave_out_what_has_run():
    key = torch._C.DispatchKey
    assert private.after_autograd.has(key.CPU) and private.after_inplace.has(key.CPU)
    assert not private.after_autograd.has(key.AutogradCPU)
    assert private.after_autograd.has(key.ADInplaceOrView) and not private.after_inplace.has(key.ADInplaceOrView)


def test_a_level_of_forward_mode_is_seen_and_its_gradients_can_be_switched():
    assert not private.in_forward_mode()
    with forward_ad.dual_level():
        assert private.in_forward_mode()
        dual = forward_ad.make_dual(X, torch.ones_like(X))
        with private.set_forward_gradients(False):
            assert forward_ad.unpack_dual(dual * 2).tangent is None
            with private.set_forward_gradients(True):
                assert forward_ad.unpack_dual(dual * 2).tangent.tolist() == [2.0, 2.0]
    assert not private.in_forward_mode()


def test_an_autocast_key_can_be_skipped():
    x = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with private.without_autocast_key("AutocastCPU"):
            assert (x @ x).dtype == torch.float32
        with private.without_autocast_key("AutocastCUDA"):
            assert (x @ x).dtype == torch.bfloat16


def test_fake_tensors_are_told_apart():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        assert private.is_fake(torch.empty(2))
    assert not private.is_fake(X)


def test_compiled_autograd_asks_for_the_key_and_gives_the_same_gradient():
    Function.keys.clear()
    x = X.clone().requires_grad_()
    out = cube(x)
    with torch._dynamo.compiled_autograd._enable(lambda graph: graph):
        out.backward()
    assert x.grad.tolist() == [3.0, 12.0]
    assert Function.keys


def test_onnx_alone_decomposes_an_operator():
    from torch._decomp import get_decompositions
    from torch.onnx._internal.exporter import _decomp

    library.define("half(Tensor x) -> Tensor")
    library.impl("half", lambda x: x / 2, "CompositeExplicitAutograd")
    half = torch.ops.svconv_names.half.default
    table = _decomp.create_onnx_friendly_decomposition_table
    try:
        private.decompose_for_onnx({half: lambda x: x * 0.5})
        assert half in _decomp.create_onnx_friendly_decomposition_table(set())
        assert not get_decompositions([half])
    finally:
        _decomp.create_onnx_friendly_decomposition_table = table
    assert _decomp.__name__ == private.ONNX_TABLE


def test_the_setting_for_tf32_is_read_by_one_name_and_guarded_on():
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    ask = torch.compiler.assume_constant_result(lambda: matmul.fp32_precision == "tf32")
    compiled = torch.compile(lambda x: x + 1 if ask() else x, backend="eager", fullgraph=True)
    try:
        for setting, want in (("ieee", 0), ("tf32", 1), ("ieee", 0)):
            matmul.fp32_precision = setting
            assert compiled(torch.zeros(1)).item() == want
    finally:
        matmul.fp32_precision = before


if __name__ == "__main__":
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
            print(name, "passed")
    print(f"torch {torch.__version__}")
