"""`LiveReport`: the report of a run that may go on for days. It keeps what its last frames were, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lowlat.jobs.report.page import write_run
from lowlat.jobs.report.record import MOST_FRAMES, TRACE_FRAMES, beside, frame_row, make_report
from lowlat.runtime import FrameResult, Span
from lowlat.video.files import SinkError, prepare_folder
from lowlat.video.trace import write_trace


class LiveReport:
    """Takes the results of `lowlat segment` as they settle, and writes the folder of the report at the end.

    Args:
        folder: the folder for ``report.json``, ``report.html`` and ``trace.json``; it is made and tried here.
        output: what the run writes beside the report: a video, a folder of label maps, or ``-``.
        video: whether the output is a video.
        settings: what the run was asked for.

    Raises:
        SinkError: the folder can't be made or written to.
    """

    def __init__(self, folder: str | Path, output: str | Path, *, video: bool, settings: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        prepare_folder("segment", self.folder, "--report")
        where = None if str(output) == "-" else beside(output, self.folder)
        self._files = {"overlay": where if video else None, "maps": None if video else where, "trace": "trace.json"}
        self._settings = settings
        self._rows: deque[dict[str, Any]] = deque(maxlen=MOST_FRAMES)
        self._spans: deque[tuple[float | None, int, list[Span]]] = deque(maxlen=TRACE_FRAMES)
        self._count = 0

    def add(self, result: FrameResult) -> None:
        """Note one settled result; only numbers are kept of it."""
        self._count += 1
        self._rows.append(frame_row(result))
        self._spans.append((result.time_s, result.index, result.spans))

    def write(self, figures: Mapping[str, Any]) -> None:
        """Write the files, each whole or not at all.

        Args:
            figures: what the command prints with ``--json``.

        Raises:
            SinkError: they can't be written.
        """
        report = make_report("segment", figures, [*self._rows], "per_frame", settings=self._settings, **self._files)
        report["frames_left_out"] = self._count - len(self._rows)
        try:
            times = {index: time_s for time_s, index, _ in self._spans}
            write_trace(self.folder / "trace.json", [span for *_, spans in self._spans for span in spans], times=times)
            write_run(self.folder, report)
        except OSError as error:
            raise SinkError(
                f"segment: expected room for the report in {str(self.folder)!r}, got {error.strerror}; make room, or "
                "choose another folder with --report"
            ) from error
