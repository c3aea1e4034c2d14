"""Files of weights, as training leaves them and `lowlat.models.load` reads them."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save as serialise

from lowlat.networks.video_network import VideoNetwork
from lowlat.video.files import whole_file


def save(network: VideoNetwork, path: str | Path, **metadata: str) -> None:
    """Write a network that `lowlat.models` built or loaded; the file appears whole or not at all.

    Beside the weights (safetensors) it keeps the network's name, its classes, its working size and its threshold.

    Convolution weights are stored in float16, which halves the file; norms and biases keep float32.

    Raises:
        ValueError: the network has no name, so that nothing could build it again.
    """
    if not network.name:
        raise ValueError(
            "save: expected a network with a name, got one without; make it with models.build or models.load"
        )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        key: (value.half() if value.ndim > 1 else value).contiguous() for key, value in network.state_dict().items()
    }
    about = {
        "network": network.name,
        "classes": str(network.classes),
        "threshold": repr(network.threshold),
        "pixels": str(network.pixels),
        "multiple": str(network.multiple),
        **network.legend.as_metadata(),
        **metadata,
    }
    with whole_file(path) as part:
        part.write_bytes(serialise(state, metadata=about))
