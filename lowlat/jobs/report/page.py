"""The page of one run: one file that a browser shows without a network, made from its report.json.

A video of at most `MOST_EMBEDDED` bytes is part of the page. A larger one stays beside the page, which refers to it by
a relative path. Everything that comes from outside (names, messages) is escaped here, and only here, on its way into
the page.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from PIL import Image

from lowlat.jobs.report.kinds import KINDS, lines_of, series_of, title_of
from lowlat.jobs.report.plot import plot
from lowlat.jobs.report.record import address, beside, in_lines
from lowlat.runtime.words import counted
from lowlat.video.files import whole_file

MOST_EMBEDDED = 10 << 20
"""The most bytes of a video that becomes part of a page; base64 makes a third more of them."""
ROOM = Path(__file__).parent
# Browsers go by this name and by what the file holds: a QuickTime file is read as an mp4, Matroska as its child WebM.
_TYPES = {".mp4": "video/mp4", ".mov": "video/mp4", ".mkv": "video/webm"}
_KEYS = (
    "The plot follows the pointer; drag to zoom in on some frames, double-click for all of them. With Ctrl the wheel "
    "zooms, with Shift it moves. By keyboard, with the plot in focus: <kbd>←</kbd> <kbd>→</kbd> a frame, "
    "<kbd>PgUp</kbd> <kbd>PgDn</kbd> ten, <kbd>Home</kbd> <kbd>End</kbd>, <kbd>+</kbd> <kbd>-</kbd> to zoom, "
    "<kbd>0</kbd> for all. A click, or <kbd>Enter</kbd>, shows the frame in a video of this page."
)


def write_run(folder: str | Path, report: Mapping[str, Any]) -> None:
    """Write ``report.json`` and ``report.html``, each whole or not at all.

    Raises:
        OSError: they can't be written.
    """
    with whole_file(Path(folder) / "report.json") as part:
        part.write_text(in_lines(report))
    write_page(Path(folder) / "report.html", run_page(report, folder))


def write_page(path: str | Path, page: str) -> None:
    """Write a page, whole or not at all. Bytes of a file's name that are no text become question marks."""
    with whole_file(path) as part:
        part.write_bytes(page.encode("utf-8", "replace"))


def run_page(report: Mapping[str, Any], folder: str | Path) -> str:
    """Make the page of a run.

    Args:
        report: as `record.make_report` makes it and report.json holds it.
        folder: the folder that the page will be in, relative to which the report names its files.
    """
    kind, (name, facts) = KINDS[report["kind"]], title_of(report)
    series, lines = series_of(report), lines_of(report)
    cards = "".join(
        f"<div><dt>{escape(figure.name)}</dt><dd>{escape(figure.words(figure.of(report)))}</dd></div>"
        for figure in kind.first
    )
    figures = [(figure.name, figure.words(figure.of(report))) for figure in kind.all]
    figures += [(f"{stage}, median", f"{ms:.2f} ms") for stage, ms in report.get("stages_ms", {}).items()]
    asked = section("Settings", _table("", flat(report["settings"]).items(), ("setting", "value")))
    ran_on = section("Machine and versions", _table("", flat(report["machine"]).items(), ("what", "value")))
    body = [
        warnings(report),
        f'<dl class="cards">{cards}</dl>',
        section("The labels", films([film(report, folder, folder)])),
        plot_section(series, lines),
        section("Figures", _table("", figures, ("figure", "value"), "columns", number=True)),
        f'<div class="pair">{asked}{ran_on}</div>',
        section("Files", _files(report)),
    ]
    made = f"Made {report['made_at'].replace('T', ' ').rstrip('Z')} UTC by lowlat {report['machine']['lowlat']}."
    return document(f"{name}: {kind.command}", name, facts, "\n".join(body), made, series, lines)


def document(
    title: str,
    heading: str,
    facts: str,
    body: str,
    footer: str,
    series: Sequence[Mapping[str, Any]],
    lines: Sequence[Mapping[str, Any]],
) -> str:
    """Make a whole page around a body of HTML; all other arguments are plain text."""
    script = (ROOM / "page.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template((ROOM / "page.html").read_text("utf-8")).substitute(
        title=escape(title),
        heading=escape(heading),
        facts=escape(facts),
        body=body,
        footer=escape(footer),
        style=(ROOM / "page.css").read_text("utf-8"),
        script=script,
        script_hash=f"sha256-{digest}",
        data=embedded({"series": series, "lines": lines}),
    )


def embedded(value: Any) -> str:
    """Return JSON that may stand in a script element, since nothing in it ends the element or begins another."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def section(title: str, inside: str, kind: str = "") -> str:
    """Make a part of a page, with a heading."""
    return f'<section class="{kind}"><h2>{escape(title)}</h2>{inside}</section>' if inside else ""


def plot_section(series: Sequence[dict[str, Any]], lines: Sequence[dict[str, Any]]) -> str:
    """Make the plot, the place where a frame's values are shown, and the buttons that a script needs."""
    names = {"in": "Zoom in", "out": "Zoom out", "earlier": "Earlier", "later": "Later", "all": "All frames"}
    buttons = "".join(f'<button type="button" id="{key}">{name}</button>' for key, name in names.items())
    return (
        '<section><div class="head"><h2>Latency of every frame</h2>'
        f'<div class="buttons" data-script hidden>{buttons}</div></div>{plot(series, lines)}'
        '<div class="readout scroll" data-script hidden><table id="readout">'
        "<caption>The frame under the pointer</caption>"
        f'<thead></thead><tbody></tbody></table></div><p class="note keys" data-script hidden>{_KEYS}</p>'
        '<p class="note">From the frame on the host to its labels on the host; start-up is left out of the curves.</p>'
        "</section>"
    )


def film(report: Mapping[str, Any], folder: str | Path, page: str | Path, name: str = "") -> str:
    """Make the labelled video of a run, embedded or beside the page, with its picture; without one, a link to the label
    maps.

    Args:
        folder: the folder of the report, relative to which it names its files.
        page: the folder of the page.
        name: the run's name, if there are several.
    """
    of = f" of {name}" if name else ""
    if report["overlay"] is None:
        return _labels_link(report, folder, page, of)
    video = Path(folder) / report["overlay"]
    link = address(beside(video, page))
    if not video.is_file():
        return f'<p class="note">Expected the video{escape(of)} at <code>{escape(str(video))}</code>, found none.</p>'
    size = video.stat().st_size
    megabytes = f"{size / (1 << 20):.1f} MiB"
    rule = f"videos of at most {MOST_EMBEDDED >> 20} MiB are"
    if size <= MOST_EMBEDDED:
        source, where = (
            _data(_TYPES.get(video.suffix.lower(), "video/mp4"), video.read_bytes()),
            f"part of it, as {rule}",
        )
    else:
        source, where = link, f"beside it, by the name in the link: only {rule} part of it. Keep both together"
    picture = _picture(Path(folder) / report["picture"]) if report["picture"] else None
    poster = f' poster="{picture}"' if picture else ""
    label = escape(f"The video with its labels{of}")
    return (
        f'<figure><video controls muted playsinline preload="auto" src="{source}"{poster} aria-label="{label}"></video>'
        f'<figcaption>{escape(name)}{": " if name else ""}<a href="{link}">{escape(video.name)}</a>, {megabytes}. '
        f"For this page the video is {where}.</figcaption></figure>"
    )


def films(found: Iterable[str]) -> str:
    """Put videos side by side, as `film` makes them; empty if there are none."""
    inside = "".join(found)
    return f'<div class="films">{inside}</div>' if inside else ""


def warnings(report: Mapping[str, Any], name: str = "") -> str:
    """Say what a reader must know before any figure: that a run broke off, that frames are missing.

    Args:
        name: the run's name, if there are several.
    """
    missing, left = report.get("missing", ()), report["frames_left_out"]
    told = [
        f"It broke off: {report['error']}" if report.get("error") else "",
        "It was interrupted before its end." if report.get("interrupted") else "",
        f"{counted(len(missing), 'frame')} of the source could not be decoded: {_numbers(missing)}." if missing else "",
        f"The source was away {counted(len(report['gaps']), 'time')}." if report.get("gaps") else "",
        f"The plot shows the last frames only: {left} before them are left out." if left else "",
        report.get("notice", ""),
    ]
    items = "".join(f"<li>{escape(line)}</li>" for line in told if line)
    title = f"Before you read on about {name}" if name else "Before you read on"
    return section(title, f"<ul>{items}</ul>" if items else "", "warning")


def table(
    caption: str, header: Sequence[str], rows: Iterable[Sequence[str]], *, number: bool = False, id: str = ""
) -> str:
    """Make a table of plain words, whose first column names the rows.

    Args:
        number: whether all other columns hold numbers.
    """
    kind = ' class="number"' if number else ""
    head = "".join(f'<th scope="col"{kind if place else ""}>{escape(name)}</th>' for place, name in enumerate(header))
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td{kind}>{escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    told = f"<caption>{escape(caption)}</caption>" if caption else ""
    named = f' id="{id}"' if id else ""
    return f'<div class="scroll"><table{named}>{told}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values each under one name, as in "svconv: compiler". A mapping of booleans becomes the list of
    its true keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        if not isinstance(value, Mapping):
            found[name] = value
        elif all(isinstance(there, bool) for there in value.values()):
            found[name] = [key for key, there in value.items() if there]
        else:
            found |= flat(value, f"{name}: ")
    return found


def plain(value: Any) -> str:
    """Return a value in words, for a table."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _table(
    caption: str, rows: Iterable[tuple[str, Any]], header: Sequence[str], kind: str = "", *, number: bool = False
) -> str:
    """Make one table of names and values, or two halves side by side if ``kind`` is "columns"."""
    rows = [(name, plain(value)) for name, value in rows]
    if kind != "columns":
        return table(caption, header, rows, number=number)
    half = (len(rows) + 1) // 2
    halves = "".join(table("", header, part, number=number) for part in (rows[:half], rows[half:]))
    return f'<div class="columns">{halves}</div>'


def _files(report: Mapping[str, Any]) -> str:
    trace = report["trace"]
    timeline = (
        f'<p><a href="{address(trace)}">{escape(trace)}</a>, the timeline of every stage: open it at '
        '<a href="https://ui.perfetto.dev">ui.perfetto.dev</a>, which reads it on this machine.</p>'
        if trace
        else ""
    )
    return timeline + (
        '<p><a href="report.json">report.json</a>, all that stands here as JSON; <code>lowlat compare</code> puts two '
        "such runs side by side.</p>"
    )


def _labels_link(report: Mapping[str, Any], folder: str | Path, page: str | Path, of: str) -> str:
    maps = report.get("maps")
    if maps is None:
        return ""
    link = address(beside(Path(folder) / maps, page))
    return f'<p>The label maps{escape(of)} are in <a href="{link}/">{escape(maps)}</a>.</p>'


def _picture(path: Path) -> str | None:
    """Return a picture as JPEG within the page; None if it isn't there or is damaged, since the page can do without."""
    kept = io.BytesIO()
    try:
        with Image.open(path) as image:
            image.convert("RGB").save(kept, "JPEG", quality=88)
    except (OSError, SyntaxError, ValueError):
        return None
    return _data("image/jpeg", kept.getvalue())


def _data(kind: str, contents: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(contents).decode()}"


def _numbers(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:10]))
    return f"{shown}, ..." if len(numbers) > 10 else shown
