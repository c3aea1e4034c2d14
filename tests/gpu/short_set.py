"""A short set of problems for compute-sanitizer: every kernel family, product and layout, once each.

    compute-sanitizer --tool memcheck --error-exitcode 1 python tests/gpu/short_set.py cuda

Each tensor has an allocation of its own, and no kernel but the operator's runs: numbers are made and compared on the
CPU.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

os.environ["PYTORCH_NO_CUDA_MEMORY_CACHING"] = "1"
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "svconv")]

import torch  # noqa: E402
from svconv_cases import DTYPES, LAYOUTS, Case, check  # noqa: E402

# Ragged frames, one of them smaller than the kernel; several chunks of channels; sub-images and groups.
CASES = (
    Case((1, 72, 18, 36), 9),
    Case((2, 40, 5, 20), 3, padding_mode="renormalize"),
    Case((1, 20, 9, 13), 5, dilation=2, groups=2, normalize=False),
    Case((1, 6, 7, 9), 11),
)


def main(device: str) -> None:
    for dtype in DTYPES:
        for case in CASES:
            case = replace(case, dtype=dtype)
            for layout in LAYOUTS.values():
                for precision in ("ieee", "tf32") if dtype == torch.float32 else ("ieee",):
                    torch.backends.cuda.matmul.fp32_precision = precision
                    check(case, *(t.contiguous(memory_format=layout).to(device) for t in case.tensors()))
    print(f"{2 * len(CASES) * (len(DTYPES) + 1)} problems on {device}, each in three products")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1])
