"""What is measured: sizes, and random tensors for them."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Problem:
    """One size, type and layout; `kernel_size` 9 is the paper's."""

    name: str
    shape: tuple[int, int, int, int]
    kernel_size: int = 9
    dtype: torch.dtype = torch.float32
    channels_last: bool = False

    @property
    def flops(self) -> int:
        """Multiplications and additions of one product (forward; each gradient has as many)."""
        n, c, h, w = self.shape
        return 2 * n * c * h * w * self.kernel_size**2

    def tensors(self, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """input, logits, grad_out; input and grad_out in the problem's layout."""
        n, _, h, w = self.shape
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        generator = torch.Generator().manual_seed(seed)
        shapes = (self.shape, (n, self.kernel_size**2, h, w), self.shape)
        return tuple(
            torch.randn(shape, generator=generator).to(self.dtype).contiguous(memory_format=layout) for shape in shapes
        )


PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem("live", (1, 128, 45, 60)),
        Problem("live-nhwc", (1, 128, 45, 60), channels_last=True),
        Problem("paper", (1, 256, 128, 256)),
        Problem("paper-nhwc", (1, 256, 128, 256), channels_last=True),
        Problem("paper-bf16", (1, 256, 128, 256), dtype=torch.bfloat16),
    )
}
