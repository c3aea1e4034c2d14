"""The named networks: `build` makes one untrained, `load` one with its weights."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lowlat.classes import CAMVID, Classes
from lowlat.networks.efficientnet_lite import EfficientNetLite0
from lowlat.networks.resnet import ResNet101
from lowlat.networks.video_network import VideoNetwork, Widths

WEIGHTS = Path(__file__).parent / "weights"
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def lite(classes: int = len(CAMVID), *, output_stride: int = 8) -> VideoNetwork:
    """Return the network that runs live on a CPU: EfficientNet-Lite0, split after its fifth block. F_l has 40 channels
    of stride 8 and 32 of detail; scores have stride 4.

    The weights are the same at ``output_stride`` 16, which trains faster, and 8, at which the network runs.
    """
    backbone = EfficientNetLite0(output_stride, split="blocks.4", detail=8)
    widths = Widths(higher=128, reduced=64, fused=64)
    normalisation = {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}
    parts = {"fineness": 2, "smooth": True, "refine": True, "match": True, "correct": True}
    return VideoNetwork(backbone, classes, widths, head_dilation=16 // output_stride, **normalisation, **parts)


def resnet101(
    classes: int = 19,
    *,
    mean: Sequence[float] = IMAGENET["mean"],
    std: Sequence[float] = IMAGENET["std"],
    align_corners: bool = False,
    **variant: Any,
) -> VideoNetwork:
    """Return the paper's network: dilated ResNet-101, pyramid pooling, split after ``conv4_3`` (1024 channels, stride
    8).

    The arguments beside ``classes`` tell the variants of public checkpoints apart; ``variant`` goes to `ResNet101`.
    """
    rest = {"padding_mode": "zeros", "mean": mean, "std": std, "align_corners": align_corners}
    return VideoNetwork(ResNet101("layer3.2", **variant), classes, Widths(higher=512, reduced=256, fused=256), **rest)


MODELS = {"lite": lite, "resnet101": resnet101}


def build(name: str, **options: Any) -> VideoNetwork:
    """Build an untrained network: one of `MODELS`, or, for a name like ``"package.module:function"``, the network that
    this function returns for ``options``. ValueError if there is none of that name."""
    if ":" in name:
        # No network of the core needs it.
        from lowlat.adoption.named import returned_by

        network = returned_by(name, options)
    elif name in MODELS:
        network = MODELS[name](**options)
    else:
        raise ValueError(f"build: expected one among {', '.join(MODELS)} or package.module:function, got {name!r}")
    network.name = name
    # A file of weights keeps the classes by themselves, and the stride is chosen anew for each run.
    network.options = {key: value for key, value in options.items() if key not in ("classes", "output_stride")}
    return network


def find(source: str | Path, others: str = "") -> Path:
    """Return the file of shipped weights or of one's own. ValueError, which names ``others`` taken too, without one."""
    path = WEIGHTS / f"{source}.safetensors" if str(source) in MODELS else Path(source)
    if path.is_file():
        return path
    if Path(source).suffix and not path.is_dir():
        raise ValueError(f"load: expected a file of weights, found none at {path}; check the path, or train it first")
    shipped = ", ".join(sorted(p.stem for p in WEIGHTS.glob("*.safetensors"))) or "none"
    got = f"{str(source)!r}{', a folder; name a file in it' if path.is_dir() else ''}"
    raise ValueError(f"load: expected a shipped network ({shipped}){others} or a .safetensors file, got {got}")


def load(source: str | Path = "lite") -> VideoNetwork:
    """Load a trained network, in eval mode.

    Args:
        source: the name of a shipped network, a file that `lowlat train` wrote, or ``"package.module:function"`` for
            the network that this function returns. A file with weights of such a network imports that module too.

    Raises:
        ValueError: there is no such name or file, or the file holds no such weights.
    """
    if not isinstance(source, (str, Path)):
        raise ValueError(
            f"load: expected a network's name or a file of weights, got {type(source).__name__}; lowlat.adopt makes a "
            "video network of a torch.nn.Module, and a prepared network goes to VideoSegmenter as it is"
        )
    if ":" in str(source) and not Path(source).is_file():
        return build(str(source)).eval()
    path = find(source, ", package.module:function")
    if path.suffix == ".pt" and path.with_name(f"{path.name.split('.')[0]}.jsonl").is_file():
        raise ValueError(f"load: expected weights, got {path}, a training's checkpoint; give the .safetensors there")
    try:
        state, metadata = read_safetensors(path)
    except Exception as error:
        mend = "copy it again" if path.suffix == ".safetensors" else "lowlat convert takes others"
        raise ValueError(f"load: expected safetensors, got {path}, which can't be read: {error}; {mend}") from error
    if not (name := metadata.get("network")):
        raise ValueError(f"load: expected weights that name a network, got {path}; lowlat convert takes others")
    options = json.loads(metadata.get("options", "{}"))
    options |= {} if ":" in name else {"classes": int(metadata.get("classes", len(CAMVID)))}
    try:
        network = build(name, **options)
        network.load_state_dict(state, strict=True)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"load: expected weights of {name} as it is built now, got {path}: {str(error)[:300]}; train it again"
        ) from error
    network.threshold = float(metadata.get("threshold", network.threshold))
    for name in ("pixels", "multiple"):
        words = str(metadata.get(name, getattr(network, name)))
        if not (words.isdecimal() and int(words) >= 1) and (name, words) != ("pixels", "None"):
            raise ValueError(f"load: expected {name} as a whole number from 1 up in {path}, got {words!r}; save anew")
        setattr(network, name, None if words == "None" else int(words))
    network.untrained = tuple(json.loads(metadata.get("untrained", "[]")))
    network.legend = Classes.from_metadata(metadata, network.classes)
    return network.eval()


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file: the tensors by name, and the file's metadata. Nothing in the file is executed.

    The format is read here so that running a network needs no package for it: eight bytes with the header's length, the
    header as JSON, then the tensors' bytes.

    Raises:
        ValueError: the file is cut off, or its header doesn't fit its contents.
    """
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start]) if start <= len(content) or content[8:9] not in (b"", b"{") else {}
    metadata = header.pop("__metadata__", {})
    whole = start + max((about["data_offsets"][1] for about in header.values()), default=0)
    if len(content) < whole:
        raise ValueError(f"it is cut off: it has {len(content)} of {whole} bytes{'' if header else ' or more'}")
    state = {}
    for name, about in header.items():
        dtype, shape, (begin, end) = _DTYPES[about["dtype"]], about["shape"], about["data_offsets"]
        count = math.prod(shape)
        if end - begin != count * dtype.itemsize or not 0 <= begin <= end <= len(content) - start:
            raise ValueError(f"expected {count} numbers of {about['dtype']} for {name}, got bytes {begin} to {end}")
        # A tensor without numbers has no buffer to be made from.
        flat = torch.frombuffer(content, dtype=dtype, count=count, offset=start + begin) if count else torch.empty(0)
        state[name] = flat.to(dtype).view(shape)
    return state, metadata


_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
