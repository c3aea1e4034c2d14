"""`lowlat`: thin shells over importable functions; bad input comes back as one line and exit code 2."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lowlat.cli import (
    batch,
    compare,
    convert,
    demo,
    evaluate,
    export,
    hub,
    info,
    latency,
    segment,
    serve,
    simulate,
    street,
    study,
    train,
)
from lowlat.cli.options import print_json, printed
from lowlat.jobs.extras import missing
from lowlat.jobs.host_memory import keep_freed_memory
from lowlat.video.address import hide, masked

# The jobs are imported inside the commands: `--help` and `simulate` start without torch.

BROKEN, BAD_INPUT, INTERRUPTED = 1, 2, 130
CLOSED_PIPE = 141
"""The status that a shell gives a program ended by SIGPIPE: whoever read its output has gone."""


# The error of a wrong command line, of which typer names only a subclass.
_WrongWords = typer.BadParameter.__base__


class _Group(TyperGroup):
    """All commands; their errors become one line on stderr, Ctrl-C and SIGTERM exit code 130."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        ctx.meta[__name__] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: typer.Context) -> Any:
        printed.set(False)
        with _sigterm_as_ctrl_c():
            return self._invoke(ctx)

    def _invoke(self, ctx: typer.Context) -> Any:
        try:
            returned = super().invoke(ctx)
            # Output that is still buffered must fail here, not when Python ends.
            if sys.stdout is not None:
                sys.stdout.flush()
            return returned
        except typer.Exit:
            # `--help` ends so; the class is a subclass of RuntimeError.
            raise
        except _WrongWords as error:
            error.message = masked(error.message)
            _print_error(ctx, error.format_message())
            raise
        except KeyboardInterrupt:
            _say("interrupted")
            _print_error(ctx, None)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            _leave_stdout()
            raise typer.Exit(CLOSED_PIPE) from None
        except (ValueError, OSError, RuntimeError, ImportError) as error:
            hide(error, "")
            line = _line(error, ctx.invoked_subcommand)
            _print_error(ctx, line)
            if ctx.params["debug"]:
                raise
            _say(line)
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
    # A name of a file may hold what no terminal can show.
    with suppress(AttributeError):
        sys.stdout.reconfigure(errors="replace")
    # This must come before any thread starts. It steadies latency, and takes a quarter off a training step on a CPU.
    keep_freed_memory()


for module in (
    demo,
    segment,
    batch,
    serve,
    latency,
    compare,
    hub,
    simulate,
    evaluate,
    info,
    study,
    train,
    convert,
    export,
    street,
):
    app.command()(getattr(module, module.__name__.rpartition(".")[2]))


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Have SIGTERM do what Ctrl-C does within the block, where Python may say so: on its first thread, and where no
    handler that was set from C, which Python could not give back, is in place."""
    before = signal.getsignal(signal.SIGTERM)
    if before is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print_error(ctx: typer.Context, line: str | None) -> None:
    """Under `--json`, print what went wrong as the object of a command that has printed none; None is Ctrl-C."""
    words = ctx.meta[__name__]
    if "--json" not in words or printed.get():
        return
    piped = "-o-" in words or "--output=-" in words or any(pair in _TO_STDOUT for pair in pairwise(words))
    with suppress(OSError):
        print_json({"interrupted": line is None, "error": line}, stderr=piped)


_TO_STDOUT = (("-o", "-"), ("--output", "-"))


def _line(error: Exception, command: str | None) -> str:
    """Say what went wrong in one line, and of a package that is missing, what to install."""
    if isinstance(error, ModuleNotFoundError) and (mend := missing(error)):
        return f"{command}: {mend}"
    return " ".join(str(error).split()) or type(error).__name__


def _say(line: str) -> None:
    print(f"lowlat: {line}", file=sys.stderr)


def _leave_stdout() -> None:
    """Let what is still to be printed go nowhere: Python would complain of the closed pipe at its end."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
