"""torch's setting for float32 products, as the operators hear of it (the kernels' answers: test_svconv_cuda.py)."""

from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import svconv
from svconv.precision import asks_for_tf32

MATMUL = torch.backends.cuda.matmul


@pytest.fixture(autouse=True)
def _restored():
    torch.compiler.reset()
    yield
    torch.set_float32_matmul_precision("highest")
    MATMUL.fp32_precision = "none"


def by_name(name, value):
    setattr(MATMUL, name, value)


# Each of torch's ways to set it, in the order of their age.
WAYS = (
    (lambda: None, False),
    (lambda: by_name("allow_tf32", True), True),
    (lambda: by_name("allow_tf32", False), False),
    (lambda: torch.set_float32_matmul_precision("high"), True),
    (lambda: torch.set_float32_matmul_precision("medium"), True),
    (lambda: torch.set_float32_matmul_precision("highest"), False),
    (lambda: by_name("fp32_precision", "tf32"), True),
    (lambda: by_name("fp32_precision", "ieee"), False),
)


def tensors(**options):
    return torch.randn(1, 8, 12, 15, **options), torch.randn(1, 81, 12, 15, **options)


def tf32_of(op, args) -> bool:
    """What a call of a product says of tf32; torch leaves arguments out that have their defaults."""
    (place,) = (place for place, argument in enumerate(op._schema.arguments) if argument.name == "tf32")
    return args[place] if len(args) > place else op._schema.arguments[place].default_value


class Recorded(TorchDispatchMode):
    """The products that are called, each with what it is told about tf32."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "svconv":
            self.calls.append((func.overloadpacket.__name__, tf32_of(func, args)))
        return func(*args, **(kwargs or {}))


def test_every_way_to_set_it_is_heard():
    for set_it, want in WAYS:
        set_it()
        assert asks_for_tf32() == want


def test_every_call_tells_the_products_what_is_set():
    for set_it, want in WAYS:
        set_it()
        with Recorded() as recorded, torch.no_grad():
            with torch.enable_grad():
                svconv.svconv2d(*tensors())
            svconv.svconv2d(*(pair := tensors()), out=torch.empty_like(pair[0]))
            svconv.correlation2d(*2 * tensors()[:1])
        assert recorded.calls == [("forward", want), ("forward_into", want), ("grad_weight", want)]


@pytest.mark.parametrize("at_forward, at_backward", [("tf32", "ieee"), ("ieee", "tf32")])
def test_a_backward_pass_rounds_as_its_forward_pass_did(at_forward, at_backward):
    want = at_forward == "tf32"
    input, logits = tensors(requires_grad=True)
    with Recorded() as recorded:
        MATMUL.fp32_precision = at_forward
        out = svconv.svconv2d(input, logits)
        MATMUL.fp32_precision = at_backward
        gradients = torch.autograd.grad(out.sum(), (input, logits), create_graph=True)
        sum(gradient.square().sum() for gradient in gradients).backward()
    assert {name for name, _ in recorded.calls} == {"forward", "grad_input", "grad_weight"}
    assert {tf32 for _, tf32 in recorded.calls} == {want}


@pytest.mark.parametrize("function", [svconv.svconv2d, svconv.correlation2d], ids=lambda function: function.__name__)
def test_a_compiled_call_is_traced_again_when_the_setting_changes(function):
    traced, ran = [], []

    def backend(graph, inputs):
        (told,) = (
            tf32_of(node.target, node.args)
            for node in graph.graph.nodes
            if getattr(node.target, "namespace", None) == "svconv"
        )
        traced.append(told)
        return lambda *inputs: ran.append(told) or graph(*inputs)

    compiled = torch.compile(function, backend=backend, fullgraph=True)
    input, logits = tensors()
    arguments = (input, logits if function is svconv.svconv2d else input)
    for setting in ("ieee", "tf32", "tf32", "ieee"):
        MATMUL.fp32_precision = setting
        compiled(*arguments)
    assert ran == [False, True, True, False]
    assert traced == [False, True]


@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_program_holds_what_was_set_at_the_export(strict):
    class Model(torch.nn.Module):
        def forward(self, input, logits):
            return svconv.svconv2d(input, logits)

    for setting, other in (("tf32", "ieee"), ("ieee", "tf32")):
        MATMUL.fp32_precision = setting
        program = torch.export.export(Model(), tensors(), strict=strict).module()
        MATMUL.fp32_precision = other
        with Recorded() as recorded, torch.no_grad():
            program(*tensors())
        assert recorded.calls == [("forward", setting == "tf32")]


def test_the_setting_does_not_touch_other_devices():
    input, logits = tensors()
    exact = svconv.svconv2d(input, logits)
    MATMUL.fp32_precision = "tf32"
    assert torch.equal(svconv.svconv2d(input, logits), exact)


def exported_symbols(library: Path) -> set[str]:
    """The names that a 64-bit little-endian ELF library defines for others: its dynamic symbols."""
    data = library.read_bytes()
    assert data[:6] == b"\x7fELF\x02\x01"

    def number(at, size):
        return int.from_bytes(data[at : at + size], "little")

    first, size, count = number(40, 8), number(58, 2), number(60, 2)
    sections = [first + i * size for i in range(count)]
    (table,) = (at for at in sections if number(at + 4, 4) == 11)  # SHT_DYNSYM
    strings = number(sections[number(table + 40, 4)] + 24, 8)
    begin, length = number(table + 24, 8), number(table + 32, 8)
    symbols = range(begin, begin + length, 24)
    defined = [at for at in symbols if number(at + 6, 2) != 0]
    return {data[(start := strings + number(at, 4)) : data.index(b"\0", start)].decode() for at in defined}


def test_the_installed_library_of_operators_exports_nothing_of_its_own():
    package = Path(svconv.__file__).parent
    assert any("svconv" in name for name in exported_symbols(package / "libsvconv_cpu.so"))
    own = [name for name in exported_symbols(package / "svconv_ops.so") if "svconv" in name]
    assert own == []
