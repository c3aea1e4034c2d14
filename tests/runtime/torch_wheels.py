"""What functions of `torch.cuda` take in other versions of torch, read from the source in their wheels: one version is
installed beside the tests, and a wheel of another system says the same of its Python files.

    make torch-wheels
    python -m pytest tests/runtime --torch-wheels=build/torch-wheels
"""

import ast
import inspect
import zipfile
from functools import cache, cached_property
from pathlib import Path

import torch

WHEELS = {}
"""The folder of `--torch-wheels`, if there is one."""


class Source:
    """The Python files of one version of torch: installed, or in a wheel."""

    def __init__(self, version, place):
        self.version, self._place = version, place

    def read(self, name):
        """A file by its name as in "torch/cuda/streams.py"; None if there is none."""
        path = zipfile.Path(self._place, name) if self._place.suffix == ".whl" else self._place / name
        return path.read_text(encoding="utf-8") if path.is_file() else None

    @cached_property
    def cuda(self):
        """The signatures of `torch.cuda`, by names as in "Event.record" and "synchronize"."""
        found = {}
        for module in ("__init__", "_utils", "graphs", "green_contexts", "memory", "streams"):
            for node in ast.parse(self.read(f"torch/cuda/{module}.py")).body:
                if isinstance(node, ast.FunctionDef):
                    found.setdefault(node.name, signature(node))
                elif isinstance(node, ast.ClassDef):
                    methods = (method for method in node.body if isinstance(method, ast.FunctionDef))
                    for method in methods:
                        found.setdefault(f"{node.name}.{method.name}", signature(method))
        return found


@cache
def sources():
    """The torch that is installed, and those whose wheels were given."""
    installed = Source(torch.__version__, Path(torch.__file__).parents[1])
    folder = WHEELS.get("folder")
    wheels = sorted(Path(folder).glob("torch-*.whl")) if folder else []
    assert wheels or not folder, f"no wheels of torch in {folder}; make torch-wheels brings them"
    return [installed, *(Source(wheel.name.split("-")[1], wheel) for wheel in wheels)]


def signature(node):
    """Names, kinds and whether there is a default: what decides whether a call is taken."""
    given, kinds = node.args, inspect.Parameter
    plain = [*given.posonlyargs, *given.args]
    optional = {argument.arg for argument in plain[len(plain) - len(given.defaults) :]}
    optional |= {a.arg for a, default in zip(given.kwonlyargs, given.kw_defaults, strict=True) if default is not None}

    def parameter(argument, kind):
        return inspect.Parameter(argument.arg, kind, default=None if argument.arg in optional else kinds.empty)

    parameters = [parameter(argument, kinds.POSITIONAL_ONLY) for argument in given.posonlyargs]
    parameters += [parameter(argument, kinds.POSITIONAL_OR_KEYWORD) for argument in given.args]
    parameters += [inspect.Parameter(given.vararg.arg, kinds.VAR_POSITIONAL)] if given.vararg else []
    parameters += [parameter(argument, kinds.KEYWORD_ONLY) for argument in given.kwonlyargs]
    parameters += [inspect.Parameter(given.kwarg.arg, kinds.VAR_KEYWORD)] if given.kwarg else []
    return inspect.Signature(parameters)
