"""A study of seconds: what it is made on and how large it is."""

from lowlat.lab.study import Settings

STREET = "street:64x48,seed=1,frames=16"
SMALL = Settings(
    seeds=2,
    steps=2,
    pairs=8,
    stills=4,
    batch=2,
    frames=14,
    images=3,
    intervals=(2, 4),
    distances=(1, 3),
    live_frames=4,
    live_fps=60.0,
    repeats=1,
)
