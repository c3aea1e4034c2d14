"""Clips with chosen times, sound and damage, and what is in a file, for tests of videos and commands."""

from fractions import Fraction

import av
import numpy as np

SIZE = (64, 48)
# Frames 0 to 7 at 25 a second, then, two seconds later, 8 to 15 at five a second.
VARYING = [index * 0.04 for index in range(8)] + [2.28 + index * 0.2 for index in range(8)]
STEADY = [index * 0.04 for index in range(20)]


def picture(index, size=SIZE):
    """Return a frame whose grey level, ten times its index, tells which one it is."""
    return np.full((size[1], size[0], 3), index * 10, np.uint8)


def number_of(frame):
    return round(float(np.asarray(frame).mean()) / 10)


def write_clip(
    path, times=STEADY, *, size=SIZE, codec="h264", sound=None, seconds=None, aspect=None, turned=0, gop=1, options=None
):
    """Write frames at these times, in seconds, a key frame every ``gop`` frames.

    Args:
        sound: codec of a tone beside them; `seconds` says how long.
    """
    base = Fraction(1, 25) if times is STEADY or codec == "mpeg2video" else Fraction(1, 1000)
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=25)
        video.width, video.height = size
        video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        video.codec_context.time_base = base
        video.codec_context.gop_size = gop
        video.options = options or {}
        if aspect is not None:
            video.codec_context.sample_aspect_ratio = aspect
        if turned:
            video.set_display_rotation(turned)
        audio = container.add_stream(sound, rate=48000 if sound != "pcm_mulaw" else 8000) if sound else None
        if audio is not None:
            audio.layout = "mono"
        for index, time_s in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(index, size), "rgb24")
            frame.pts, frame.time_base = round(time_s / base), base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            _tone(container, audio, seconds or times[-1])
    return path


def _tone(container, audio, seconds):
    rate = audio.codec_context.sample_rate
    wave = np.sin(np.arange(round(seconds * rate)) / 20).astype(np.float32)[None] / 3
    frame = av.AudioFrame.from_ndarray(wave, "fltp", "mono")
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    size = audio.codec_context.frame_size or 960
    shaper = av.AudioResampler(audio.codec_context.format.name, "mono", rate, frame_size=size)
    for part in [*shaper.resample(frame), *shaper.resample(None)]:
        container.mux(audio.encode(part))
    container.mux(audio.encode(None))


def spoil(path, numbers, spoilt=lambda packet: b"\xff" * len(packet)):
    """Overwrite the packets of these frames, by default so that they can't be decoded."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(container.streams.video[0]) if packet.size]
        packets.sort(key=lambda packet: packet.pts)
        chosen = [bytes(packets[number]) for number in numbers]
    data = path.read_bytes()
    for packet in chosen:
        assert data.count(packet) == 1
        data = data.replace(packet, spoilt(packet))
    path.write_bytes(data)
    return path


def times_of(path, kind="video"):
    """Return the times of the packets of a file, in seconds and in their order."""
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        stamps = [packet.pts for packet in container.demux(stream) if packet.pts is not None]
        return sorted(float(stamp * stream.time_base) for stamp in stamps)


def boxes(path):
    """Return the names of the parts that an mp4 consists of, in their order."""
    data, at, names = path.read_bytes(), 0, []
    while at + 8 <= len(data):
        names.append(data[at + 4 : at + 8].decode("latin-1"))
        at += int.from_bytes(data[at : at + 4], "big")
    return names
