"""The program `lowlat`, also run as `python -m lowlat` and `torchrun -m lowlat`."""

import sys

from lowlat.jobs.extras import missing


def main() -> None:
    """Run the command line; if a package that it needs is missing, say in one line what to install."""
    try:
        from lowlat.cli import app
    except ModuleNotFoundError as error:
        if not (mend := missing(error)):
            raise
        sys.exit(f"lowlat: {mend}")
    app(prog_name="lowlat")


if __name__ == "__main__":
    main()
