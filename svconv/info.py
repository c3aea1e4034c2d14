"""Facts about the build and about what runs, for reports and bug reports."""

import re
from functools import cache

from svconv import _C


def build_info() -> dict[str, object]:
    """Facts about the compiled libraries.

    Returns:
        `version`, `compiler`, `cuda` (whether CUDA kernels were built, in words), `instruction_sets` (compiled in,
        narrowest first, and whether this machine has each) and `active_instruction_set`.
    """
    return {
        **_C.build_info(),
        "instruction_sets": _C.instruction_sets(),
        "active_instruction_set": _C.active_instruction_set(),
    }


@cache
def built_for(architecture: int, build: str = _C.build_info()["cuda"]) -> bool:
    """True if a build has CUDA kernels for an architecture of GPUs: 90 is sm_90.

    `build` says what it has in the words of `build_info()["cuda"]`. Kernels for sm_80 run on sm_86 too, which
    has the same major version; PTX is compiled on any GPU from its own on.
    """
    return any(
        int(number) <= architecture and (kind == "compute" or int(number) // 10 == architecture // 10)
        for kind, number in re.findall(r"(sm|compute)_(\d+)", build)
    )
