"""What functions of `torch.cuda` take in other versions of torch, read from the source in their wheels: no version but
one can be installed beside the tests, and a wheel of another system says the same.

    pytest tests/runtime -k stand-in --torch-wheels FOLDER
"""

import ast
import inspect
import zipfile
from functools import cache
from pathlib import Path


@cache
def published(folder):
    """By wheel, the signatures by name as in "Event.record" and "synchronize"."""
    wheels = sorted(Path(folder).glob("torch-*.whl")) if folder else []
    assert wheels or not folder, f"no wheels of torch in {folder}"
    return {wheel.name.split("-")[1]: signatures(wheel) for wheel in wheels}


def signatures(wheel):
    found = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith("torch/cuda/") and name.endswith(".py") and name.count("/") == 2:
                for node in ast.parse(archive.read(name)).body:
                    if isinstance(node, ast.FunctionDef):
                        found.setdefault(node.name, signature(node))
                    elif isinstance(node, ast.ClassDef):
                        for method in node.body:
                            if isinstance(method, ast.FunctionDef):
                                found.setdefault(f"{node.name}.{method.name}", signature(method))
    return found


def signature(node):
    """Names, kinds and whether there is a default: what decides whether a call is taken."""
    kinds = inspect.Parameter
    given = node.args
    plain = [*given.posonlyargs, *given.args]
    optional = {argument.arg for argument in plain[len(plain) - len(given.defaults) :] if given.defaults}
    optional |= {a.arg for a, default in zip(given.kwonlyargs, given.kw_defaults, strict=True) if default is not None}

    def parameter(argument, kind):
        default = None if argument.arg in optional else kinds.empty
        return inspect.Parameter(argument.arg, kind, default=default)

    parameters = [parameter(argument, kinds.POSITIONAL_ONLY) for argument in given.posonlyargs]
    parameters += [parameter(argument, kinds.POSITIONAL_OR_KEYWORD) for argument in given.args]
    parameters += [inspect.Parameter(given.vararg.arg, kinds.VAR_POSITIONAL)] if given.vararg else []
    parameters += [parameter(argument, kinds.KEYWORD_ONLY) for argument in given.kwonlyargs]
    parameters += [inspect.Parameter(given.kwarg.arg, kinds.VAR_KEYWORD)] if given.kwarg else []
    return inspect.Signature(parameters)
