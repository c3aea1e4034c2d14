"""Distillation: the fast track learns from the per-frame network's own predictions on unlabelled video.

It adapts a network to a camera without annotation, and gives one that was trained elsewhere its fast track. S_l, S_h
and their classifier stay as they are, and so does a key frame selector that has been trained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from lowlat import models
from lowlat.jobs.untrained import check_trained
from lowlat.lab.data.recording import Batch, Recording, check_length
from lowlat.lab.methods.weights import fingerprint
from lowlat.lab.notices import notice
from lowlat.lab.train import processes
from lowlat.lab.train.batch import Share
from lowlat.lab.train.finish import leave
from lowlat.lab.train.loop import begun, fit
from lowlat.lab.train.propagation import HOP_SHARE
from lowlat.lab.train.propagation import divergence as divergence_of
from lowlat.lab.train.provenance import videos_digest, weights_digest
from lowlat.lab.train.recipe import change
from lowlat.lab.train.recipes import DEFAULT, check_used, recipe_of
from lowlat.lab.train.records import check_tensorboard
from lowlat.lab.train.selector import train_selector
from lowlat.lab.train.start import check_pixels, name_of
from lowlat.lab.weights import FAST_TRACK, SELECTOR
from lowlat.networks.labels import full_size_labels
from lowlat.networks.video_network import VideoNetwork
from lowlat.runtime.stages import NetworkStages
from lowlat.video.files import prepare_folder, whole_file
from lowlat.video.pipe import is_pipe

LABELS = ("soft", "hard")
MEASURED = (2, 5, 10)  # frames from the key frame at which agreement is measured
MEASURED_PAIRS = 40  # about as many pairs are measured of each video at each distance


@dataclass(frozen=True)
class Distilled:
    """The report of :func:`distill`: agreement of the fast track with the per-frame network on held-out frames."""

    weights: str
    videos: list[str]
    frames: int
    held_out: int
    agreement_before: float
    """Percent of pixels with the same label, mean over ``MEASURED`` distances."""
    agreement: float
    steps: int
    """The step whose weights were kept; 0 where no step was better than the weights it started from."""
    selector: bool
    """Whether the key frame selector was trained too: it was untrained before."""

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def distill(
    videos: Sequence[str | Path],
    *,
    out: str | Path,
    init: str | Path | None = None,
    network: str | None = None,
    pixels: int | str | None = "default",
    labels: str = "soft",
    temperature: float = 1.0,
    frames: int = 1500,
    held_out: float = 0.2,
    device: str = "cpu",
    tensorboard: bool = False,
    **changes,
) -> Distilled:
    """Teach a network's fast track on videos without labels; goes on from wherever the last run in ``out`` stopped.
    One that had come to its end is not run again.

    Leaves ``<out>/distill.safetensors``, for any command's ``--weights``, the report ``<out>/distill.json``, the log
    ``<out>/distill.jsonl`` and the checkpoints ``<out>/distill.pt`` and ``<out>/distill.best.pt``.

    Args:
        videos: files, or folders of images.
        init: a shipped network's name or a file of weights; by default the shipped weights of ``network``.
        network: the network's name; ``"lite"`` where nothing is said. An adopted one, as in
            ``"package.module:function"``, is taken as that function builds it where no weights are given.
        pixels: the working size, kept with the weights; None for the frames' own size; by default the network's.
        labels: ``"soft"`` for the per-frame network's probabilities (Kullback-Leibler divergence; Hinton, Vinyals,
            Dean, "Distilling the knowledge in a neural network", 2015), ``"hard"`` for its labels (cross-entropy).
        temperature: divides both sides' scores before the divergence; above 1 it softens them.
        frames: how many are taken of each video at most, spread over it; each holds about a megabyte.
        held_out: share of each video's frames, from the end, on which agreement is measured.
        changes: fields of :class:`~lowlat.lab.train.recipe.Recipe` in place of those of the network's recipe for
            ``distill``; None leaves one as it is.

    Raises:
        SourceError, ValueError: no such video or one too short, no such weights, options that make no sense.
        RuntimeError: another process failed.
    """
    if labels not in LABELS:
        raise ValueError(f"distill: expected labels among {', '.join(LABELS)}, got {labels!r}; name one of them")
    if not videos or not temperature > 0 or not 0 < held_out < 1 or frames < 1:
        raise ValueError(
            "distill: expected videos, temperature above 0, held_out between 0 and 1 and frames of at least 1, got "
            f"{len(videos)}, {temperature}, {held_out} and {frames}"
        )
    check_pixels(pixels)
    check_used("distill", changes)
    out = Path(out)
    network, start = _teacher(network, init)
    check_trained("train", network, fast_track=False)
    recipe = change(recipe_of(network.name, "distill"), **changes)
    if pixels != "default":
        network.pixels = pixels
    if tensorboard:
        check_tensorboard()
    for video in videos:
        # One that can't be opened shows before anything is made; a pipe can be opened once only.
        if not is_pipe(str(video)):
            check_length(video, frames, held_out)
    starts_from = {
        "videos": videos_digest(videos),
        "network": network.name,
        "pixels": str(network.pixels),
        "start": start,
        "labels": labels,
        "temperature": str(float(temperature)),
        "frames": str(frames),
        "held_out": str(held_out),
    }
    # What another run has left there shows before the frames are looked at.
    if begun(out / "distill.pt", {**recipe.numbers(), **starts_from}) and (done := _finished(out)):
        notice(f"train: distill in {out} had been trained already; to train anew, give another --out")
        return done
    fresh = not out.exists()
    prepare_folder("train", out)
    with processes.joined(device) as device:
        recipe.share(processes.world())
        network = network.to(device, memory_format=torch.channels_last)
        # A selector that nobody has trained says the same of every two frames.
        untrained_selector = "selector" in network.untrained or not network.selector.fc.weight.any()
        look = per_frame(network, device)
        try:
            recordings = [Recording(video, look, frames=frames, held_out=held_out) for video in videos]
        except BaseException:
            if fresh:
                # A folder that holds anything stays.
                with suppress(OSError):
                    out.rmdir()
            raise
        before = agreement(network, recordings, device)
        # Batch norms keep their statistics: a single video would bend them.
        network.eval()
        modules = nn.ModuleList([network.reduction, network.predictor, network.adapt, network.fusion])
        before_it = {name: tensor.clone() for name, tensor in modules.state_dict().items()}
        lengths = torch.tensor([float(len(recording)) for recording in recordings])

        def draw(share: Share) -> Batch:
            recording = recordings[int(torch.multinomial(lengths, 1, generator=share.step))]
            hop = bool(torch.rand((), generator=share.step) < HOP_SHARE)
            return share.collect(lambda generator: recording.draw(generator, middle=hop))

        def loss(batch: Batch) -> Tensor:
            return divergence(fast_track(network, batch, device), batch.scores.to(device), labels, temperature)

        best = fit(
            "distill",
            modules,
            [{"params": list(modules.parameters())}],
            draw,
            loss,
            recipe,
            out,
            validate=lambda: agreement(network, recordings, device),
            starts_from=starts_from,
            tensorboard=tensorboard,
        )
        better = best.figure > before
        if not better:
            modules.load_state_dict(before_it)
        taught = (FAST_TRACK if better else ()) + (SELECTOR if untrained_selector else ())
        network.untrained = tuple(name for name in network.untrained if name not in taught)
        if untrained_selector:
            teach_selector(
                network, recordings, out, device, {name: starts_from[name] for name in ("start", "videos")}, changes
            )
        report = Distilled(
            weights=str(out / "distill.safetensors"),
            videos=[recording.name for recording in recordings],
            frames=sum(map(len, recordings)),
            held_out=sum(len(recording) - recording.first_held_out for recording in recordings),
            agreement_before=round(before, 2),
            agreement=round(best.figure if better else before, 2),
            steps=best.steps if better else 0,
            selector=untrained_selector,
        )
        leave(network, Path(report.weights), stage="distill", data=", ".join(report.videos))
        if processes.rank() == 0:
            with whole_file(out / "distill.json") as part:
                part.write_text(json.dumps(report.as_dict(), indent=1))
        processes.wait()
    return report


def _finished(out: Path) -> Distilled | None:
    """Return the report of a distillation that has come to its end in ``out``; None where none has."""
    weights, report = out / "distill.safetensors", out / "distill.json"
    if not (weights.is_file() and report.is_file()):
        return None
    told = json.loads(report.read_text())
    known = {field.name for field in fields(Distilled)}
    return replace(Distilled(**told), weights=str(weights)) if set(told) == known else None


def _teacher(name: str | None, init: str | Path | None) -> tuple[VideoNetwork, str]:
    """Return the network that is distilled, and a hash of what it starts from."""
    if init is None and name and ":" in name:
        network = models.build(name).eval()
        return network, fingerprint(network, whole=True)
    start = init or name or DEFAULT
    name_of(name, start, DEFAULT)
    return models.load(start), weights_digest(start)


def teach_selector(
    network: VideoNetwork,
    recordings: Sequence[Recording],
    out: Path,
    device: str,
    starts_from: Mapping[str, str],
    changes: Mapping[str, object],
) -> None:
    """Train a key frame selector that has not been trained yet, on the part of the videos that is trained on: two
    frames 2 to 10 apart, and the share of positions that the per-frame network labels differently."""
    recipe = change(recipe_of(network.name, "selector"), **changes)
    lengths = torch.tensor([float(len(recording)) for recording in recordings])

    def draw(generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        recording = recordings[int(torch.multinomial(lengths, 1, generator=generator))]
        return recording.draw_deviation(generator)

    train_selector(network, draw, out, recipe, device, name="distill-selector", starts_from=starts_from)


def per_frame(network: VideoNetwork, device: str):
    """Return the per-frame network as it runs live, at its working size, as a function from a frame to (F_l, F_h,
    scores)."""
    stages = NetworkStages(network, pixels=network.pixels, device=device, fast_track=False)

    @torch.inference_mode()
    def look(frame: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        low = stages.lower(frame)
        high = stages.higher(low).features
        return low.features.cpu(), high.cpu(), stages.network.classify(high).cpu()

    return look


def fast_track(network: VideoNetwork, batch: Batch, device: str) -> Tensor:
    """Compute scores of the current frames, propagated by way of the frames half-way if there are any."""

    def reduced(low: Tensor):
        return network.reduce(low.to(device, memory_format=torch.channels_last))

    anchor = network.anchor(reduced(batch.key_low))
    high = batch.key_high.to(device, memory_format=torch.channels_last)
    if batch.middle_low is not None:
        middle = reduced(batch.middle_low)
        high = network.fuse(network.propagate(anchor, high, middle), middle).high
        anchor = network.anchor(middle)
    current = reduced(batch.low)
    return network.fuse(network.propagate(anchor, high, current), current).scores


def divergence(scores: Tensor, taught: Tensor, labels: str, temperature: float) -> Tensor:
    """Return the loss of the fast track's ``scores`` against the per-frame network's, ``taught``: a mean over
    positions.

    Args:
        scores, taught: ``(N, classes, h, w)``, of any two sizes.
    """
    if labels == "soft":
        return divergence_of(scores, taught, temperature).mean()
    scores = F.interpolate(scores.float(), taught.shape[-2:], mode="bilinear", align_corners=False)
    return F.cross_entropy(scores, taught.argmax(1))


@torch.no_grad()
def agreement(network: VideoNetwork, recordings: Sequence[Recording], device: str) -> float:
    """Measure the percentage of pixels that the fast track labels as the per-frame network does, on the held-out
    frames.

    Each process measures its share of the pairs.
    """
    network.eval()
    counts = torch.zeros(len(MEASURED), 2, dtype=torch.int64, device=device)
    for row, distance in enumerate(MEASURED):
        for recording in recordings:
            pairs = recording.held_out(distance)
            pairs = pairs[:: max(1, len(pairs) // MEASURED_PAIRS)]
            for pair in pairs[processes.rank() :: processes.world()]:
                batch = recording.batch([pair])
                size = [4 * side for side in batch.scores.shape[-2:]]
                ours = full_size_labels(fast_track(network, batch, device), size).cpu()
                same = ours == full_size_labels(batch.scores, size)
                counts[row] += torch.tensor([int(same.sum()), same.numel()], device=device)
    same, pixels = processes.add(counts).T.double()
    return 100 * (same / pixels).mean().item()
