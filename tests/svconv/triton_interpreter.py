"""Triton's interpreter, made quick enough for all of the operator's tests."""

from dataclasses import replace
from types import FunctionType

import triton.language as tl
from triton.runtime import interpreter


def quicken() -> None:
    """Two thirds of the interpreter's time go into what these tests can do without: it puts its own functions in the
    place of Triton's again for every call of a device function, and computes all integers a second time in 64 bits to
    see an overflow (test_triton_faults.py looks for one)."""
    both = FunctionType(quicken.__code__, {"tl": tl, "core": tl.core})
    interpreter._patch_lang(both)
    interpreter._patch_lang = lambda function: interpreter._LangPatchScope()
    check_overflow(False)


def check_overflow(on: bool) -> None:
    builder = interpreter.interpreter_builder
    builder.options = replace(builder.options, sanitize_overflow=on)
