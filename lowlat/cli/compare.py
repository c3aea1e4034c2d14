"""The command `lowlat compare`, a thin shell over `lowlat.jobs.report.compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lowlat.cli.options import AsJson, print_json, print_table

_RUN = "A run's folder, or its report.json."


def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN", help=_RUN)],
    second: Annotated[Path, typer.Argument(metavar="RUN", help="The run to compare it with.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write a page for a browser, as in compare.html.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put two runs of demo, latency or segment --report side by side."""
    from lowlat.jobs.report import compare as job

    found = job.compare(first, second, output)
    if as_json:
        print_json(found.as_dict())
        return
    for table in job.comparison_tables(found):
        print_table(table)
    if output is not None:
        print(f"{output}: both runs on one page, for any browser")
