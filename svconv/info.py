"""Facts about the build and about what runs, for reports and bug reports, and where the compiled libraries are."""

import re
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

FOLDER = Path(__file__).parent
# What to do about compiled libraries that aren't there.
_MEND = (
    "a folder of sources hides the installed package from a Python that is started in it: start it in another folder, "
    "or build the libraries into this one with pip install --no-build-isolation --editable ."
)


def _compiled_module():
    """Return svconv._C. Raises ImportError, which says what is missing and what to do."""
    try:
        return import_module("svconv._C")
    except ModuleNotFoundError as error:
        if error.name != "svconv._C":
            raise
        tag = sys.implementation.cache_tag
        found = sorted(path.name for path in FOLDER.glob("_C.*.so"))
        mend = f"build it for this Python with pip install --no-build-isolation {FOLDER.parent}" if found else _MEND
        raise ImportError(
            f"svconv: expected the compiled module svconv._C for {tag} in {FOLDER}, found {found or 'none'}; {mend}"
        ) from error


_C = _compiled_module()


def library_path() -> Path:
    """Return the path of the shared library that registers the operators with torch, for programs without a Python
    package.

    A C++ program opens it with dlopen before it loads a model that calls `torch.ops.svconv` (docs/operator.md).

    Raises:
        ImportError: the library is not in the package's folder.
    """
    path = FOLDER / "svconv_ops.so"
    if not path.is_file():
        raise ImportError(f"svconv: expected the compiled library {path}, found none; {_MEND}")
    return path


def build_info() -> dict[str, object]:
    """Return facts about the compiled libraries.

    Returns:
        `version`, `compiler`, `cuda` (whether CUDA kernels were built, in words), `instruction_sets` (those compiled
            in, narrowest first, each with whether this machine has it) and `active_instruction_set`.
    """
    return {
        **_C.build_info(),
        "instruction_sets": _C.instruction_sets(),
        "active_instruction_set": _C.active_instruction_set(),
    }


@cache
def built_for(architecture: int, build: str = _C.build_info()["cuda"]) -> bool:
    """Whether a build has CUDA kernels for a GPU architecture: 90 stands for sm_90.

    `build` describes the build as `build_info()["cuda"]` does. Kernels for sm_80 also run on sm_86, which has the same
    major version; PTX is compiled for any GPU of its own architecture or a later one.
    """
    return any(
        int(number) <= architecture and (kind == "compute" or int(number) // 10 == architecture // 10)
        for kind, number in re.findall(r"(sm|compute)_(\d+)", build)
    )
