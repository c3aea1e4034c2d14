"""The command `lowlat info`, a thin shell over `lowlat.jobs.info`."""

from __future__ import annotations

from lowlat.cli.options import AsJson, print_figures, print_json


def info(as_json: AsJson = False) -> None:
    """Show what is installed and built, what this machine has, and which weights are shipped."""
    from lowlat.jobs.info import info as job

    report = job()
    if as_json:
        print_json(report)
    else:
        print_figures(report)
