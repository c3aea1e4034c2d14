"""Files of what a method has learned, each with a hash of the network that it was learned on."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save as serialised

from lowlat.lab.methods import build
from lowlat.lab.methods.flow import ExactFlows
from lowlat.lab.methods.method import Method
from lowlat.lab.weights import BETWEEN_KEY_FRAMES
from lowlat.lab.writing import writable
from lowlat.networks.video_network import VideoNetwork
from lowlat.video.files import whole_file


def fingerprint(network: VideoNetwork, *, whole: bool = False) -> str:
    """Return a hash of the per-frame network: S_l, S_h and their classifier. It is the same before and after saving the
    network.

    Args:
        whole: whether the fast track and the selector count too.
    """
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        if whole or name.split(".")[0] not in BETWEEN_KEY_FRAMES:
            digest.update(name.encode())
            # Files store convolutions in float16: rounded, a network has the same hash before and after it is saved.
            digest.update((value.half() if value.ndim > 1 else value).cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def save(method: Method, path: str | Path) -> None:
    """Write what ``method`` has learned (safetensors), in a file that appears whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous() for name, value in method.learned.state_dict().items()}
    with writable("save", path), whole_file(path) as part:
        # `save_file` would leave a file that its owner alone may read; a network's weights are written so too.
        part.write_bytes(serialised(state, {"method": method.name, "network": fingerprint(method.network)}))


def load(path: str | Path, network: VideoNetwork, *, flow: ExactFlows | None = None) -> Method:
    """Read a method from a file written by :func:`save`, around the network that it was learned on.

    ``"adaptive-fusion"`` is read into the network itself.

    Args:
        flow: the data set's exact flow, as in `build`.

    Raises:
        ValueError: no such file, a file that holds no method, or one learned on another network.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"load: expected a method's weights at {path}, found none; lowlat train propagation first")
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
        state = load_file(path)
        name, learned_on = about["method"], about["network"]
    except Exception as error:
        raise ValueError(
            f"load: expected a method's weights at {path}, got a file that holds none: {error!r}"
        ) from error
    if learned_on != fingerprint(network):
        raise ValueError(
            f"load: expected weights learned on this network ({fingerprint(network)}), got {path}, learned on "
            f"{learned_on}; train the method again"
        )
    method = build(name, network, flow=flow)
    method.learned.load_state_dict(state)
    return method
