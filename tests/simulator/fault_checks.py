"""What a planted fault is, and the small problems that show it."""

from dataclasses import dataclass

import torch
from products import Launch
from svconv_cases import Case, NotFinite


@dataclass(frozen=True)
class Check:
    """One product on one problem, run in every order of the threads."""

    product: str
    case: Case
    layout: str
    launch: Launch


@dataclass(frozen=True)
class Fault:
    """A fault: a text that a file of csrc/cuda holds exactly once, and what replaces it; `unit` is the source to
    compile again."""

    name: str
    file: str
    text: str
    replacement: str
    unit: str
    check: Check
    sanitizer: str = "none"


# Odd sizes: every copy is of one element, of 16 bits without cp.async.
HALF = Case((1, 104, 6, 21), 5, padding_mode="renormalize", dtype=torch.float16)
# Sizes of whole vectors.
VECTORS = Case((1, 104, 6, 20), 5, dtype=torch.float16)
GROUPS = Case((1, 40, 6, 21), 5, groups=2, dtype=torch.float16)
GROUPS_OF_VECTORS = Case((1, 40, 6, 20), 5, groups=2, dtype=torch.float16)
BAND = Launch("band", columns=2, rows=1, stages=3)
SUM = Check("forward", HALF, "nchw", BAND)
SUM_OF_VECTORS = Check("forward", VECTORS, "nchw", BAND)
REVERSED = Check("grad_input", HALF, "channels_last", BAND)
GRADIENT = Check("grad_weight", HALF, "channels_last", Launch("band", 2, 1, parts=2, stages=2))
FMA_SUM_OF_VECTORS = Check("forward", Case((1, 72, 6, 20), 5), "nchw", Launch("fma", 2, 4, stages=2))
FMA_SUM = Check("forward", Case((1, 72, 6, 21), 5, padding_mode="renormalize"), "nchw", Launch("fma", 2, 4, stages=2))
FMA_GRADIENT = Check("grad_weight", Case((1, 40, 6, 21), 5), "channels_last", Launch("fma", 2, 4, stages=2))
WIDE = Case((1, 40, 14, 21), 11, dtype=torch.bfloat16)
WIDE_SUM = Check("forward", WIDE, "channels_last", Launch("band", 2, 1, stages=2))
WIDE_GRADIENT = Check("grad_weight", WIDE, "nchw", Launch("band", 2, 1, parts=2, stages=2))
WIDEST = Case((1, 40, 14, 21), 13, dtype=torch.float16)
WIDEST_SUM = Check("forward", WIDEST, "nchw", Launch("band", 2, 1, stages=2))
WIDEST_REVERSED = Check("grad_input", WIDEST, "channels_last", Launch("band", 2, 1, stages=2))
WIDEST_GRADIENT = Check("grad_weight", WIDEST, "channels_last", Launch("band", 2, 1, stages=2))
TF32_SUM = Check(
    "forward", Case((1, 104, 6, 21), 5, padding_mode="renormalize"), "nchw", Launch("tf32", 2, 1, stages=2)
)
TF32_SUM_OF_VECTORS = Check("forward", Case((1, 104, 6, 20), 5), "channels_last", Launch("tf32", 2, 1, stages=2))
TF32_GRADIENT = Check("grad_weight", Case((1, 40, 6, 21), 5), "channels_last", Launch("tf32", 2, 1, parts=2, stages=2))
TF32_GRADIENT_OF_ROWS = Check("grad_weight", Case((1, 40, 6, 20), 5), "nchw", Launch("tf32", 2, 1, parts=2, stages=2))
TF32_NOT_FINITE = Check("grad_input", NotFinite((1, 40, 6, 21), 5), "channels_last", Launch("tf32", 2, 1, stages=2))
ANY = Case((1, 6, 5, 9), 7, padding_mode="renormalize")
