"""Spatially variant convolution: every pixel has its own kernel, predicted by a network, shared over channels.

`svconv2d` is the operator, `SVConv2d` the module, `correlation2d` what kernels can be predicted from,
`svconv.reference` the definitions in plain PyTorch, `svconv.compat` functions of other packages on these kernels,
`svconv.numpy` the operator on NumPy arrays; `backends` and `explain` say what runs, `warmup` gets it ready,
`build_info` says what was built, `library_path` where.

torch is imported with the first name that needs it, so that `svconv.numpy` works without torch. To have the operators
registered before any of them is called, as a saved program needs it, `import svconv.ops`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from svconv.info import build_info, library_path

if TYPE_CHECKING:
    from svconv import arguments, checks, compat, dispatch, functional, module, numpy, ops, reference  # noqa: F401
    from svconv.dispatch import backends
    from svconv.functional import correlation2d, explain, svconv2d, warmup
    from svconv.module import SVConv2d

__version__ = str(build_info()["version"])
__all__ = [
    "SVConv2d",
    "backends",
    "build_info",
    "compat",
    "correlation2d",
    "explain",
    "library_path",
    "ops",
    "reference",
    "svconv2d",
    "warmup",
]

_NAMES = {
    "SVConv2d": "svconv.module",
    "backends": "svconv.dispatch",
    "correlation2d": "svconv.functional",
    "explain": "svconv.functional",
    "svconv2d": "svconv.functional",
    "warmup": "svconv.functional",
}
_MODULES = ("arguments", "checks", "compat", "dispatch", "functional", "module", "numpy", "ops", "reference")


if not TYPE_CHECKING:  # to type checkers it would be any name's definition

    def __getattr__(name: str) -> object:
        if name in _NAMES:
            value = getattr(import_module(_NAMES[name]), name)
        elif name in _MODULES:
            value = import_module(f"svconv.{name}")
        else:
            raise AttributeError(f"module 'svconv' has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES, *_MODULES})
