"""The versions of torch whose source is at hand: what is read from it is what `inspect` says, and the private names
that the operator uses are there."""

import ast
import inspect
import re
from pathlib import Path

import pytest
import torch
from cuda_stand_in import CudaStandIn
from torch_wheels import sources

PRIVATE = Path(__file__).parents[2] / "svconv" / "torch_private.py"
# What the runtime calls, for whatever of it is written in Python.
CALLED = (
    "Event.__new__ Event.record ExternalStream.__new__ GreenContext.create graph.__init__ stream synchronize".split()
)


def test_what_is_read_from_the_source_is_what_inspect_says():
    read = sources()[0].cuda
    for name in CALLED:
        real = torch.cuda
        for part in name.split("."):
            real = inspect.getattr_static(real, part)
        real = real.__func__ if isinstance(real, staticmethod) else real
        found, expected = read[name].parameters, inspect.signature(real).parameters
        assert [*found] == [*expected], name
        for parameter in found.values():
            other = expected[parameter.name]
            assert parameter.kind == other.kind and (parameter.default is parameter.empty) == (
                other.default is other.empty
            )


@pytest.mark.parametrize("name", CALLED)
def test_every_version_has_what_the_runtime_calls(name):
    for source in sources():
        assert name in source.cuda, f"torch {source.version}"


def test_a_call_that_one_version_refuses_is_refused(monkeypatch):
    stand_in = CudaStandIn()
    with pytest.raises(AssertionError, match=r"torch\.cuda\.synchronize of torch .* takes no such call"):
        stand_in.names["synchronize"]("cuda:0", "now")
    with pytest.raises(AssertionError, match=r"torch\.cuda\.Event\.__new__ of torch .* takes no such call"):
        stand_in.names["Event"](timed=True)


def private_names():
    """The private names of torch in svconv/torch_private.py: (file of torch, name)."""
    tree = ast.parse(PRIVATE.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("torch."):
            yield from ((f"{node.module.replace('.', '/')}.py", alias.name) for alias in node.names)
        elif isinstance(node, ast.Attribute) and ast.unparse(node).startswith("torch._C._"):
            yield "torch/_C/__init__.pyi", node.attr
        elif isinstance(node, ast.Attribute) and ast.unparse(node).startswith("forward_ad._"):
            yield "torch/autograd/forward_ad.py", node.attr


@pytest.mark.parametrize(("file", "name"), sorted({*private_names()}))
def test_every_version_has_the_private_names_of_the_operator(file, name):
    for source in sources():
        text = source.read(file) or source.read(f"{file.removesuffix('.py')}/__init__.py")
        assert text and re.search(rf"^\s*(def|class) {name}\b|^{name}\b|import .*\b{name}\b", text, flags=re.M), (
            f"torch {source.version}: no {name} in {file}"
        )
