"""A video while it is written, in fragments that play however it ends, and its plain form with sound, once it is
done."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av

ANEW_S = 0.1
"""Seconds by which a packet must be earlier than the packet before it for its stream to have begun anew, as where
recordings are joined end to end: packets come in the order of decoding, and their times never go back."""
FRAGMENT_S = 0.5
"""Seconds of video that are written at once. A process that is killed loses so much, and what its encoder holds
back."""
_FRAGMENTS = {
    "movflags": "empty_moov+default_base_moof",
    "frag_duration": str(round(FRAGMENT_S * 10**6)),
    "flush_packets": "1",
}
_CLUSTERS = {"cluster_time_limit": str(round(FRAGMENT_S * 10**3)), "flush_packets": "1"}


@dataclass
class AudioTrack:
    """The sound of a video file, to be copied into what is made of it.

    Attributes:
        address: what FFmpeg opens.
        codec: FFmpeg's name of the codec.
        start_s: when the video's first frame is, in the file's seconds.
        whole: whether the video was read to its end; then the sound is copied to its own end.
        shifts: seconds by which times are put off in each part of a source that begins anew, as joined recordings do.
    """

    address: str
    codec: str
    start_s: Fraction
    whole: bool = False
    shifts: list[float] = field(default_factory=lambda: [0.0])


def growing(form: str) -> dict[str, str]:
    """Return FFmpeg's options for a file of the format ``form`` that plays at any time while it grows."""
    return dict(_CLUSTERS if form == "matroska" else _FRAGMENTS)


def finish(part: Path, done: Path, form: str, rate: Fraction, audio: AudioTrack | None, lasts_s: float) -> None:
    """Make a plain video of one that has grown, with its index at the start, by copying what is encoded.

    Args:
        part: the video that has grown.
        done: the file to write.
        form: FFmpeg's name of the format of both.
        rate: pictures a second, which a file may state beside their times.
        audio: sound to add; None for none.
        lasts_s: seconds for which the last picture is shown.

    Raises:
        OSError, av.error.FFmpegError: one can't be read, or the other written.
    """
    options = {} if form == "matroska" else {"movflags": "faststart"}
    with ExitStack() as stack:
        pictures = stack.enter_context(av.open(named(part)))
        whole = stack.enter_context(av.open(named(done), "w", format=form, options=options))
        shown = pictures.streams.video[0]
        target = whole.add_stream_from_template(shown)
        target.codec_context.framerate = rate
        sounds: Iterator[av.Packet] = iter(())
        if audio is not None:
            sound = stack.enter_context(av.open(audio.address))
            heard = whole.add_stream_from_template(sound.streams.audio[0])
            sounds = _sounds(sound, audio, keep_early=form != "matroska")
        waiting = next(sounds, None)
        last_s = 0.0
        for packet, final in _told_last(pictures.demux(shown)):
            last_s = float(packet.pts * shown.time_base)
            if final:
                packet.duration = max(1, round(lasts_s / shown.time_base))
            while waiting is not None and waiting.pts * waiting.time_base < packet.pts * shown.time_base:
                _put(whole, waiting, heard)
                waiting = next(sounds, None)
            _put(whole, packet, target)
        while waiting is not None and (audio.whole or waiting.pts * waiting.time_base < last_s + lasts_s):
            _put(whole, waiting, heard)
            waiting = next(sounds, None)


def measure(path: Path) -> tuple[int, float]:
    """Return how many pictures a video holds, and the time of the last one in seconds."""
    with av.open(named(path)) as container:
        video = container.streams.video[0]
        times = [packet.pts for packet in _readable(container.demux(video)) if packet.pts is not None]
        return len(times), float(max(times, default=0) * video.time_base)


def cut_to_whole_boxes(path: Path) -> None:
    """Cut off the fragment of an mp4 that a full disk has torn."""
    size, whole, at = path.stat().st_size, 0, 0
    with path.open("r+b") as file:
        while at + 8 <= size:
            file.seek(at)
            length, kind = struct.unpack(">I4s", file.read(8))
            if length == 1:
                (length,) = struct.unpack(">Q", file.read(8))
            if length < 8 or at + length > size:
                break
            at += length
            # The box that announces a fragment is useless without the box that holds it.
            whole = whole if kind == b"moof" else at
        file.truncate(whole)


def _sounds(container: av.container.InputContainer, audio: AudioTrack, *, keep_early: bool) -> Iterator[av.Packet]:
    """Yield the packets of sound from the first frame on, their times counted from it.

    Args:
        keep_early: whether packets that only prepare the decoder may have times below zero.
    """
    stream = container.streams.audio[0]
    start = round(audio.start_s / stream.time_base)
    part, before, last = 0, None, None
    for packet in _readable(container.demux(stream)):
        if packet.pts is None:
            continue
        if before is not None and (before - packet.pts) * stream.time_base > ANEW_S:
            part = min(part + 1, len(audio.shifts) - 1)
        before = packet.pts
        shift = packet.pts - start + round(audio.shifts[part] / stream.time_base)
        # Where parts are joined, the sound of one may go on for longer than its pictures.
        late = last is not None and shift <= last
        if late or shift + (packet.duration or 0 if keep_early else 0) < 0:
            continue
        packet.pts = packet.dts = last = shift
        yield packet


def _told_last(packets: Iterator[av.Packet]) -> Iterator[tuple[av.Packet, bool]]:
    """Yield the packets that hold something, each with whether it is the last one."""
    held = None
    for packet in _readable(packets):
        if packet.pts is None:
            continue
        if held is not None:
            yield held, False
        held = packet
    if held is not None:
        yield held, True


def _readable(packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
    """Yield packets up to the end, or up to where the file is torn."""
    try:
        yield from packets
    except av.error.FFmpegError:
        return


def named(path: Path) -> str:
    """Return a path for FFmpeg, which takes what stands before a colon in a plain one for a protocol."""
    return f"file:{path}"


def _put(container: av.container.OutputContainer, packet: av.Packet, stream: av.stream.Stream) -> None:
    packet.stream = stream
    container.mux(packet)
