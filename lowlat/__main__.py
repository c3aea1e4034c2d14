"""The program `lowlat`, `python -m lowlat`, and with it `torchrun -m lowlat`."""

import sys

from lowlat.jobs.extras import missing


def main() -> None:
    """Run the command line; without its packages, say in one line what to install."""
    try:
        from lowlat.cli import app
    except ModuleNotFoundError as error:
        if not (mend := missing(error)):
            raise
        sys.exit(f"lowlat: {mend}")
    app(prog_name="lowlat")


if __name__ == "__main__":
    main()
