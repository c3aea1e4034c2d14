"""The weights that a stage leaves: written whole, and read back before anyone is told of them."""

from __future__ import annotations

from pathlib import Path

from lowlat import models
from lowlat.lab.train import processes
from lowlat.lab.weights import save
from lowlat.networks.video_network import VideoNetwork
from lowlat.video.files import whole_file


def leave(network: VideoNetwork, path: Path, **told: str) -> None:
    """Write a network by the first process and wait for it; a file that can't be loaded again never gets its name.

    Args:
        told: notes for the file's metadata.

    Raises:
        RuntimeError: what was written is not what is read back.
    """
    if processes.rank() == 0:
        with whole_file(path, durable=True) as part:
            save(network, part, **told)
            check_saved(network, part)
    processes.wait()


def check_saved(network: VideoNetwork, path: Path) -> None:
    """Read a file of weights back.

    Raises:
        RuntimeError: it can't be loaded, is of another network, other classes or another working size, or holds weights
            that are no numbers.
    """
    try:
        saved = models.load(path)
    except ValueError as error:
        raise RuntimeError(f"train: expected weights of {network.name} that can be read back, got {error}") from error
    for name in ("name", "legend", "pixels", "multiple"):
        ours, theirs = getattr(network, name), getattr(saved, name)
        if ours != theirs:
            raise RuntimeError(
                f"train: expected weights that say {name}={ours!r}, read back {theirs!r}; don't use them"
            )
    if broken := [name for name, weight in saved.named_parameters() if not weight.isfinite().all()]:
        raise RuntimeError(
            f"train: expected weights that are finite numbers, got others in {', '.join(broken[:4])}; lower the "
            "learning rate, or train in float32"
        )
