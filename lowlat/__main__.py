"""The program `lowlat`, also run as `python -m lowlat` and `torchrun -m lowlat`."""

import os
import sys

from lowlat.jobs.extras import missing


def main() -> None:
    """Run the command line; if a package that it needs is missing, say in one line what to install."""
    open_standard_streams()
    try:
        from lowlat.cli import app
    except ModuleNotFoundError as error:
        if not (mend := missing(error)):
            raise
        sys.exit(f"lowlat: {mend}")
    app(prog_name="lowlat")


def open_standard_streams() -> None:
    """Put nothing in the place of standard streams that the caller has closed, as ``2>&-`` does.

    An output file would get the number of a closed one, and what libraries print with it; and what is printed for a
    standard error that is none goes to standard output.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


if __name__ == "__main__":
    main()
