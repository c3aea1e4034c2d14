"""Writes files of weights, which `lowlat.models.load` reads."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save as serialised

from lowlat.lab.writing import writable
from lowlat.networks.video_network import VideoNetwork
from lowlat.video.files import whole_file

PER_FRAME = ("head", "refine", "classifier")
FAST_TRACK = ("reduction", "predictor", "adapt", "fusion")
SELECTOR = ("selector",)
BETWEEN_KEY_FRAMES = (*FAST_TRACK, *SELECTOR)
"""The modules that a network does not use frame by frame."""
TAUGHT = {
    "base": PER_FRAME,
    "finetune": PER_FRAME,
    "propagation": FAST_TRACK,
    "selector": SELECTOR,
}
"""The modules beside the backbone that each stage of training teaches. A distillation says itself what it has taught:
it may find nothing better than its start."""


def save(network: VideoNetwork, path: str | Path, *, half: bool = True, **metadata: str) -> None:
    """Write a network that `lowlat.models` built or loaded; the file appears whole or not at all.

    Beside the weights (safetensors) it keeps the network's name and options, its classes, its working size, its
    threshold, and which of its modules are untrained still, less those that the stage of training named in ``metadata``
    has taught.

    Args:
        half: store convolution weights in float16, which halves the file; norms and biases keep float32. Not those of
            an adopted network.
        metadata: further strings to keep.

    Raises:
        ValueError: the network has no name, so that nothing could build it again.
        OSError: the file can't be written.
    """
    if not network.name:
        raise ValueError(
            "save: expected a network with a name, got one without; make it with models.build or models.load"
        )
    path = Path(path)
    with writable("save", path):
        path.parent.mkdir(parents=True, exist_ok=True)
    # A network from elsewhere keeps its weights as they are; those that it uses twice are stored twice.
    half = half and ":" not in network.name
    state = {
        key: (value.half() if half and value.ndim > 1 else value.clone()).contiguous()
        for key, value in network.state_dict().items()
    }
    taught = TAUGHT.get(metadata.get("stage", ""), ())
    about = {
        "network": network.name,
        "options": json.dumps(network.options),
        "classes": str(network.classes),
        "threshold": repr(network.threshold),
        "pixels": str(network.pixels),
        "multiple": str(network.multiple),
        "untrained": json.dumps([name for name in network.untrained if name not in taught]),
        **network.legend.as_metadata(),
        **metadata,
    }
    with writable("save", path), whole_file(path) as part:
        # `save_file` would leave a file that its owner alone may read.
        part.write_bytes(serialised(state, about))
