"""torchvision and timm beside a CPU build of torch, for tests: ``from torchvision_library import timm, torchvision``.

Its wheel's compiled operators are for another build of torch and don't load. Its models need none of them, but it asks
for their schemas when it is imported.
"""

import torch

SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
# The schemas last as long as this object.
library = torch.library.Library("torchvision", "FRAGMENT")
for name, schema in SCHEMAS.items():
    if not hasattr(torch.ops.torchvision, name):
        library.define(schema)

import timm  # noqa: E402
import torchvision  # noqa: E402

__all__ = ["timm", "torchvision"]
