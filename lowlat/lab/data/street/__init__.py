"""A street drawn by rule: video with exact labels and exact optical flow on every frame, of any size, from a seed."""

from lowlat.lab.data.street.street import Street

__all__ = ["Street"]
