"""Tries the `svconv` and `lowlat` that are imported here: `python try_wheel.py FOLDER` expects both below FOLDER."""

import sys
from pathlib import Path

import torch

import lowlat
import svconv

folder = Path(sys.argv[1]).resolve()
for package in (svconv, lowlat):
    assert folder in Path(package.__file__).resolve().parents, f"expected {folder}/..., got {package.__file__}"
for page in ("serve/page/index.html", "jobs/report/page.html"):
    assert (Path(lowlat.__file__).parent / page).is_file(), f"expected {page}"

features, logits = (torch.randn(1, channels, 12, 10, requires_grad=True) for channels in (8, 81))
out = svconv.svconv2d(features, logits)
torch.testing.assert_close(out, svconv.svconv2d(features, logits, backend="reference"))
out.sum().backward()
assert features.grad.isfinite().all() and logits.grad.isfinite().all()
print(f"Python {sys.version.split()[0]}, torch {torch.__version__}: {svconv.build_info()}")
