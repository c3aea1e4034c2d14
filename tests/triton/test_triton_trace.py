"""A compiler sees the kernels in the operators: traced on tensors of a GPU that need not be there."""

import logging

import pytest
import torch
from torch._functorch.aot_autograd import aot_export_module
from torch._subclasses import FakeTensorMode

pytest.importorskip("triton")
import svconv  # noqa: E402
from svconv.triton.ops import INTERPRETED, PRODUCTS  # noqa: E402

pytestmark = pytest.mark.skipif(INTERPRETED, reason="in the interpreter there are no kernels to see")
OPTIONS = (9, 1, 1, True, False)


class Step(torch.nn.Module):
    def __init__(self, product):
        super().__init__()
        self.product = product

    def forward(self, *tensors):
        result = self.product(*tensors, *OPTIONS)
        return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("name", ["forward", "grad_input", "grad_weight"])
def test_a_graph_holds_kernels_in_place_of_the_operator(name, dtype, caplog):
    # Without a GPU nobody can say what a kernel changes; torch warns and takes every argument to change.
    caplog.set_level(logging.CRITICAL)
    with FakeTensorMode(), torch.no_grad():
        data, grad = (torch.empty(1, 16, 12, 20, dtype=dtype, device="cuda") for _ in range(2))
        logits = torch.empty(1, 81, 12, 20, dtype=dtype, device="cuda")
        lse = torch.empty(1, 1, 12, 20, device="cuda")
        tensors = {
            "forward": (data, logits),
            "grad_input": (grad, logits, lse),
            "grad_weight": (grad, data, logits, lse),
        }[name]
        traced, _ = aot_export_module(Step(getattr(PRODUCTS, name)), tensors, trace_joint=False)
    called = [str(node.target) for node in traced.graph.nodes if node.op == "call_function"]
    assert "triton_kernel_wrapper_functional" in called
    assert not any("svconv" in target for target in called)


def test_an_exported_program_holds_the_operator():
    class Model(torch.nn.Module):
        def forward(self, data, logits):
            return svconv.svconv2d(data * 1.5, logits, backend="triton").relu()

    with FakeTensorMode():
        tensors = [torch.empty(1, channels, 12, 20, dtype=torch.bfloat16, device="cuda") for channels in (16, 81)]
        program = torch.export.export(Model(), tuple(tensors))
    operators = [node.target for node in program.graph.nodes if "svconv" in str(node.target)]
    assert operators == [PRODUCTS.forward]
