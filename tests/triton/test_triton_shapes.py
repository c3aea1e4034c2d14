"""The raw operators refuse what doesn't fit, in calls that did not come through svconv2d."""

import pytest
import torch

pytest.importorskip("triton")
from svconv.triton.ops import PRODUCTS  # noqa: E402

RAW = (3, 1, 2, True, False)
DATA, LOGITS, LSE = torch.zeros(2, 4, 5, 6), torch.zeros(2, 18, 5, 6), torch.zeros(2, 2, 5, 6)
BAD = [
    ("forward", "logits", (DATA, LOGITS[:, 1:])),
    ("forward", "logits", (DATA, LOGITS.half())),
    ("grad_input", "lse", (DATA, LOGITS, LSE[:1])),
    ("grad_input", "lse", (DATA, LOGITS, LSE.double())),
    ("grad_input", "lse", (DATA, LOGITS, LSE.new_empty(0))),
    ("grad_weight", "grad_out", (DATA[:, :2], DATA, LOGITS, LSE)),
    ("grad_weight", "grad_out", (DATA.half(), DATA, LOGITS, LSE)),
    ("grad_weight", "lse", (DATA, DATA, LOGITS, LSE[:, :1])),
]


@pytest.mark.parametrize(("product", "name", "tensors"), BAD, ids=lambda value: value if type(value) is str else "")
def test_tensors_that_do_not_fit_are_refused(product, name, tensors):
    with pytest.raises(RuntimeError, match=f"^svconv::triton_{product}: expected {name} of shape"):
        getattr(PRODUCTS, product)(*tensors, *RAW)
