"""`python -m lowlat`, and with it `torchrun -m lowlat`."""

from lowlat.cli import app

app(prog_name="lowlat")
