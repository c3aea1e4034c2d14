"""`lowlat`: thin shells over importable functions; bad input comes back as one line and exit code 2."""

from __future__ import annotations

import importlib.metadata
import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from lowlat.cli import latency, street, study, train
from lowlat.cli.latency import size_of
from lowlat.runtime.cpu.host_memory import keep_freed_memory

# The jobs are imported inside the commands: `--help` and `simulate` start without torch.

BROKEN, BAD_INPUT, INTERRUPTED = 1, 2, 130


class _Group(TyperGroup):
    """All commands; their errors become one line on stderr, Ctrl-C and SIGTERM exit code 130."""

    def invoke(self, ctx: typer.Context) -> Any:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _say("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except (ValueError, OSError, RuntimeError, ImportError) as error:
            if ctx.params["debug"]:
                raise
            _say(" ".join(str(error).split()) or type(error).__name__)
            raise typer.Exit(BAD_INPUT if isinstance(error, (ValueError, OSError)) else BROKEN) from None


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"lowlat {importlib.metadata.version('svconv')}")
        raise typer.Exit


@app.callback()
def main(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Low-latency video semantic segmentation."""
    # Before any thread starts. It steadies latency, and takes a quarter off the time of a training step on a CPU.
    keep_freed_memory()


def _say(line: str) -> None:
    print(f"lowlat: {line}", file=sys.stderr)


Weights = Annotated[str, typer.Option(help="A shipped network's name, or a file of weights.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the figures as JSON on stdout.")]
MaxFrames = Annotated[int | None, typer.Option(help="Stop after so many frames.")]
Interval = Annotated[float | None, typer.Option(help="Frames between key frames, for the policy every.")]
Threshold = Annotated[float | None, typer.Option(help="For the policies threshold, adaptive and accumulated.")]
PolicyName = Annotated[
    str | None,
    typer.Option(help="per-frame, every, threshold, adaptive or accumulated; by default adaptive, as the weights say."),
]


@app.command()
def demo(
    video: Annotated[Path | None, typer.Argument(help="A video; by default the sample clip.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for what it leaves.")] = Path("demo"),
    fps: Annotated[float, typer.Option(help="Rhythm of the low-latency run.")] = 10.0,
    weights: Weights = "lite",
    policy: PolicyName = None,
    interval: Interval = None,
    threshold: Threshold = None,
    max_frames: MaxFrames = None,
    as_json: AsJson = False,
) -> None:
    """Segment a clip frame by frame and with the low-latency schedule, and compare the latencies."""
    from lowlat.jobs import demo as job
    from lowlat.jobs.segment import choose_policy

    report = job.demo(
        video,
        out,
        weights=weights,
        policy=choose_policy(policy, interval, threshold),
        fps=fps,
        max_frames=max_frames,
        console=Console(stderr=True),
    )
    if as_json:
        _print_json(report.as_dict())
        return
    console = Console()
    console.print(job.table(report))
    console.print(f"{out}/: overlay.mp4, latency.png, trace.json (open it at ui.perfetto.dev), report.json")


@app.command()
def segment(
    source: Annotated[
        str,
        typer.Argument(metavar="INPUT", help="A video, a folder of images, a camera's number or an address."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A video (.mp4, .mkv, .mov), or a folder for label maps.")
    ],
    weights: Weights = "lite",
    policy: PolicyName = None,
    interval: Interval = None,
    threshold: Threshold = None,
    mode: Annotated[str, typer.Option(help="low-latency or blocking.")] = "low-latency",
    decision: Annotated[str | None, typer.Option(help="deferred or critical; by default as the mode allows.")] = None,
    overload: Annotated[
        str | None,
        typer.Option(help="drop-oldest (default for live sources), drop-newest or wait (default for files)."),
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Hand out a file's frames at this rate.")] = None,
    size: Annotated[str | None, typer.Option(help="Scale frames first, as in 640x360.")] = None,
    max_frames: MaxFrames = None,
    as_json: AsJson = False,
) -> None:
    """Segment any source live; write a video with the segmentation over it, or a folder of label maps."""
    from lowlat.jobs import segment as job

    report = job.segment(
        source,
        output,
        weights=weights,
        policy=policy,
        interval=interval,
        threshold=threshold,
        mode=mode,
        decision=decision,
        overload=overload,
        fps=fps,
        resize=size_of("segment", size),
        max_frames=max_frames,
        console=Console(stderr=True),
    )
    if as_json:
        _print_json(report.as_dict())
    else:
        Console().print(job.table(report))
    if report.interrupted:
        raise KeyboardInterrupt


@app.command()
def simulate(
    lower: Annotated[float, typer.Option(help="Cost of S_l in ms.")] = 61,
    higher: Annotated[float, typer.Option(help="Cost of S_h in ms.")] = 299,
    select: Annotated[float, typer.Option(help="Cost of the key frame decision in ms.")] = 20,
    propagate: Annotated[float, typer.Option(help="Cost of propagation in ms.")] = 38,
    policy: Annotated[str, typer.Option(help="per-frame, every, threshold, adaptive or accumulated.")] = "every",
    interval: Annotated[
        float | None, typer.Option(help="Frames between key frames, or their mean; 5 by default.")
    ] = None,
    threshold: Threshold = None,
    mode: Annotated[
        str | None, typer.Option(help="blocking or low-latency; by default as the decision asks for.")
    ] = None,
    decision: Annotated[str, typer.Option(help="critical or deferred.")] = "critical",
    frames: Annotated[int, typer.Option(help="Frames after the first one.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """Run a schedule under a simulated clock, from the costs of the stages."""
    from lowlat.jobs import simulate as job

    report = job.simulate(
        lower=lower,
        higher=higher,
        select=select,
        propagate=propagate,
        policy=policy,
        interval=interval,
        threshold=threshold,
        mode=mode,
        decision=decision,
        frames=frames,
    )
    if as_json:
        _print_json(report.as_dict())
    else:
        _print_figures(report.as_dict())


@app.command()
def evaluate(
    data: Annotated[str, typer.Option(help="A folder, or a kind and its place, as in street:480x360,seed=0.")],
    weights: Weights = "lite",
    images: Annotated[bool, typer.Option(help="Per frame on the test list.")] = True,
    video: Annotated[bool, typer.Option(help="The labelled video under a schedule, in replay.")] = True,
    distances: Annotated[bool, typer.Option(help="By exact distance from the key frame.")] = False,
    policy: Annotated[str, typer.Option(help="every, threshold, adaptive or accumulated.")] = "adaptive",
    interval: Annotated[float, typer.Option(help="Frames between key frames, or their mean.")] = 5,
    threshold: Threshold = None,
    delay: Annotated[int, typer.Option(help="Frames until S_h lands.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Accuracy on labelled data: per frame on its list test, and on the video of its list val."""
    from lowlat.lab.accuracy import evaluate as job

    report = job(
        data,
        weights,
        images=images,
        video=video,
        distances=distances,
        policy=policy,
        interval=interval,
        threshold=threshold,
        delay=delay,
    )
    if as_json:
        _print_json(report)
    else:
        _print_figures(report)


@app.command()
def info(as_json: AsJson = False) -> None:
    """What is installed, what was built, what this machine has, and which weights are shipped."""
    from lowlat.jobs.info import info as job

    report = job()
    if as_json:
        _print_json(report)
    else:
        _print_figures(report)


app.command()(latency.latency)
app.command()(study.study)
app.command()(train.train)
app.command()(street.street)


def _print_json(report: dict[str, Any]) -> None:
    print(json.dumps(report, indent=1, allow_nan=False))


def _print_figures(report: dict[str, Any], indent: str = "") -> None:
    """Names and values, one a line; what is nested is indented."""
    width = max((len(name) for name in report), default=0)
    for name, value in report.items():
        if isinstance(value, dict):
            print(f"{indent}{name}")
            _print_figures(value, indent + "  ")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            print(f"{indent}{name}")
            for row in value:
                print(f"{indent}  " + "  ".join(f"{key} {cell}" for key, cell in row.items()))
        else:
            words = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
            print(f"{indent}{name:<{width}}  {words}")
