"""`VideoSink` writes an H.264 video, and leaves no broken file."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from lowlat.video.files import SinkError, part_of

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
QUALITY = {"preset": "veryfast", "crf": "20"}


def is_video_path(path: str | Path) -> bool:
    """Whether an output is meant as a video (by its suffix) rather than as a folder of label maps.

    Raises:
        SinkError: the suffix is no video's, and there is no such folder.
    """
    path = Path(path)
    if path.suffix.lower() in CONTAINERS:
        return True
    if path.suffix and not path.is_dir():
        raise SinkError(
            f"output: expected a video ({', '.join(CONTAINERS)}) or a folder for label maps, "
            f"got {str(path)!r}; change the suffix, or leave it out for a folder"
        )
    return False


class VideoSink:
    """An H.264 video, written under a temporary name beside ``path``; ``close`` makes it whole and gives it its name.

    Close it after an exception too (or use it as a context manager): what was written until then can be played. If
    nothing was written, or after ``abandon``, no new file remains, and one that was at ``path`` before stays.

    Args:
        path: the video; its suffix, one of ``CONTAINERS``, says the container.
        size: ``(width, height)`` of the pictures; an odd side is padded by repeating its last row or column.
        fps: pictures a second.

    Raises:
        SinkError: at once, if the output can't be written.
    """

    def __init__(self, path: str | Path, size: tuple[int, int], fps: float | Fraction):
        self.path, self.size = Path(path), size
        if self.path.suffix.lower() not in CONTAINERS:
            raise SinkError(
                f"VideoSink: expected a name ending in {', '.join(CONTAINERS)}, got {str(path)!r}; rename it"
            )
        if self.path.is_dir():
            raise SinkError(f"VideoSink: expected a file's name, got a folder at {str(path)!r}; name a file in it")
        self._part = part_of(self.path)
        self._last = -1
        self._closed = False
        try:
            self._container = av.open(str(self._part), "w", format=CONTAINERS[self.path.suffix.lower()])
        except (av.error.FFmpegError, OSError) as error:
            raise self._unwritable(error) from error
        try:
            width, height = size
            # FFmpeg chooses the encoder: libx264 where it has it, else another one of H.264.
            self._video = self._container.add_stream("h264", rate=Fraction(fps).limit_denominator(60000))
            self._video.width, self._video.height = width + width % 2, height + height % 2
            self._video.pix_fmt = "yuv420p"
            self._video.options = QUALITY
            self._video.codec_context.thread_count = 1
            self._container.start_encoding()
        except BaseException as error:
            self.abandon()
            if isinstance(error, (av.error.FFmpegError, OSError, ValueError)):
                raise self._unwritable(error) from error
            raise

    def write(self, picture: np.ndarray, index: int | None = None) -> None:
        """Append one picture, uint8 RGB ``(H, W, 3)``.

        Args:
            index: its place in the video, rising, by default the next; where places are left out, the picture
                before them is shown for longer.

        Raises:
            ValueError: a picture of another size, or an index that doesn't rise.
            SinkError: the output can no longer be written.
        """
        width, height = self.size
        index = self._last + 1 if index is None else index
        if picture.shape != (height, width, 3) or picture.dtype != np.uint8:
            raise ValueError(
                f"VideoSink.write: expected uint8 pictures ({height}, {width}, 3), got {picture.dtype} {picture.shape}"
            )
        if index <= self._last:
            raise ValueError(f"VideoSink.write: expected an index above {self._last}, got {index}")
        if width % 2 or height % 2:
            picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts = index
        try:
            self._container.mux(self._video.encode(frame))
        except (av.error.FFmpegError, OSError) as error:
            raise self._unwritable(error) from error
        self._last = index

    def close(self) -> None:
        """Finish the video and give it its final name. May be called again.

        Raises:
            SinkError: the rest of it can't be written; no file remains then.
        """
        if self._closed:
            return
        if self._last < 0:
            self.abandon()
            return
        try:
            self._container.mux(self._video.encode(None))
            self._container.close()
            self._closed = True
            self._part.replace(self.path)
        except (av.error.FFmpegError, OSError) as error:
            raise self._unwritable(error) from error
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close, and remove what was written. May be called again."""
        if not self._closed:
            self._closed = True
            with suppress(av.error.FFmpegError, OSError):
                self._container.close()
        with suppress(OSError):
            self._part.unlink(missing_ok=True)

    def __enter__(self) -> VideoSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _unwritable(self, error: BaseException) -> SinkError:
        reason = getattr(error, "strerror", None) or error
        return SinkError(
            f"VideoSink: expected a place to write a video, got {str(self.path)!r}: {reason}; "
            "choose a folder that exists, may be written to and has room"
        )
