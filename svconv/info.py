"""What was built and what runs, for reports and bug reports."""

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
