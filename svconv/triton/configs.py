"""How the kernels are cut into programs: there are candidates for each class of problems, of which the fastest is
measured once and kept.

Free of Triton. Measurements are kept in a file for each GPU, version of Triton and version of the kernels, which all
processes of a user share.
"""

import atexit
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, astuple, dataclass, replace
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Config:
    """A tile of rows x columns pixels, how many channels and taps are done at a time, and Triton's warps and pipeline
    stages."""

    rows: int
    columns: int
    channels: int
    warps: int
    stages: int = 2
    taps: int = 1


@dataclass(frozen=True)
class ProblemClass:
    """A class of problems that one configuration serves. Sizes are exponents of two, rounded up."""

    product: str  # "sum": forward and grad_input; "gradient": grad_weight
    family: str  # "band" or "taps"
    dtype: str
    kernel_size: int
    channels_inside: bool  # whether channels, not columns, lie side by side in memory
    channels: int  # of a group
    pixels: int  # of the batch

    def __str__(self) -> str:
        return " ".join(map(str, astuple(self)))


def window_rows(kernel_size: int, rows: int) -> int:
    """Return how many rows a band's tile reads, rounded up to a power of two."""
    return _power_of_two(rows + kernel_size - 1, 1 << 20)


def candidates(product: str, family: str, kernel_size: int, itemsize: int, amd: bool = False) -> tuple[Config, ...]:
    """Return the configurations worth trying. The first one fits every GPU of this maker, spills nothing, and runs
    unless another has been measured."""
    if family == "taps":
        return tuple(Config(rows, 16, channels, 4) for rows, channels in ((2, 32), (4, 32), (4, 64), (8, 16)))
    configs = _band_candidates(product, kernel_size, itemsize)
    if not amd:
        return configs
    # Warps of 64 threads; what is loaded ahead waits in registers, which Triton 3.6 spills.
    halved = [replace(config, warps=config.warps // 2) for config in configs]
    return tuple(dict.fromkeys([replace(halved[0], stages=1), *halved]))


def _band_candidates(product: str, kernel_size: int, itemsize: int) -> tuple[Config, ...]:
    if itemsize == 4:
        shapes = ((4, 16, 8, 2), (4, 32, 8, 2), (8, 32, 8, 2))
        return tuple(Config(rows, 8, *shape, taps=16) for rows, *shape in shapes)
    # A window is as wide as the kernel reaches from `columns` pixels.
    if kernel_size > 9:
        return tuple(Config(2, 16, channels, warps, taps=16) for channels, warps in ((32, 8), (32, 4), (64, 8)))
    if product == "sum":
        shapes = ((8, 32, 8, 2), (8, 32, 4, 2), (8, 64, 8, 2), (8, 64, 8, 3), (4, 64, 4, 2))
    else:
        shapes = ((4, 32, 8, 2), (4, 64, 8, 2), (4, 64, 4, 2), (8, 32, 8, 2), (8, 64, 8, 2))
    return tuple(Config(rows, 8, *shape, taps=16) for rows, *shape in shapes)


def interpreted(family: str, kernel_size: int, channels: int, rows: int, columns: int) -> Config:
    """Return the configuration for Triton's interpreter, whose time depends on the number of operations: few programs,
    with blocks not much larger than the problem."""
    channels = _power_of_two(channels, 32)
    if family == "band":
        tile = _power_of_two(rows, 8), 8 if kernel_size <= 9 and columns <= 16 else 16
        return Config(*tile, channels, 1, taps=_power_of_two(kernel_size**2, 256))
    rows, columns = _power_of_two(rows, 16), _power_of_two(columns, 32)
    # A block has a million elements at most.
    taps = _power_of_two(kernel_size**2, (1 << 18) // (rows * columns * channels))
    return Config(rows, columns, channels, 1, taps=taps)


def _power_of_two(size: int, most: int) -> int:
    return 1 << (max(min(size, most), 1) - 1).bit_length()


class Cache:
    """Configurations by problem class in a JSON file, or in memory alone if there is no file."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.known = self._read()

    def _read(self) -> dict[str, Config]:
        try:
            return {name: Config(**values) for name, values in json.loads(self.file.read_text()).items()}
        except (OSError, AttributeError, TypeError, ValueError):
            # The file isn't there yet, or isn't ours: everything is measured anew.
            return {}

    def get(self, problem: ProblemClass) -> Config | None:
        return self.known.get(str(problem))

    def put(self, problem: ProblemClass, config: Config) -> None:
        """Add to what other processes have written meanwhile. Readers see the old file or the new one, never a part."""
        self.known = {**self._read(), **self.known, str(problem): config}
        if self.file is None:
            return
        text = json.dumps({name: asdict(config) for name, config in sorted(self.known.items())}, indent=1)
        written = None
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self.file.parent, delete=False) as file:
                written = file.name
                file.write(text + "\n")
            os.replace(written, self.file)
        except OSError:
            # The folder can't be written: this process keeps what it measured, the next one measures again.
            self.file = None
            if written is not None:
                Path(written).unlink(missing_ok=True)


def folder() -> Path | None:
    """Return the folder that keeps measured configurations, svconv/triton in the user's cache folder; None without a
    user."""
    try:
        caches = (Path(os.environ.get("XDG_CACHE_HOME", "")), Path.home() / ".cache")
    except RuntimeError:
        # Neither HOME nor the table of users knows one.
        caches = (Path(os.environ.get("XDG_CACHE_HOME", "")),)
    # A relative path would be another folder in every working directory.
    return next((cache / "svconv" / "triton" for cache in caches if cache.is_absolute()), None)


@cache
def source_hash() -> str:
    """Return a hash of this package's sources, so that another version of the kernels is measured anew."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


@cache
def cache_of(gpu: str, triton_version: str) -> Cache:
    name = "-".join(re.sub(r"[^A-Za-z0-9.]+", "_", part) for part in (gpu, triton_version, source_hash()))
    return Cache(folder() and folder() / f"{name}.json")


def give_triton_a_folder(knobs) -> None:
    """Have Triton compile into a folder of this process alone if its own folder can't be written to.

    `knobs` are `triton.knobs`, whose `cache.dir` is the folder that it compiles into.
    """
    try:
        if not Path(knobs.cache.dir).is_absolute():
            raise OSError("it is below an unknown home")
        os.makedirs(knobs.cache.dir, exist_ok=True)
        with tempfile.TemporaryFile(dir=knobs.cache.dir):
            pass
    except OSError:
        knobs.cache.dir = tempfile.mkdtemp(prefix="svconv-triton-")
        atexit.register(shutil.rmtree, knobs.cache.dir, ignore_errors=True)


def fastest(configs: tuple[Config, ...], seconds_of: Callable[[Config], float]) -> Config:
    """Return the config for which `seconds_of(config)` is least. A config that asks for more than the GPU has raises an
    error, and is left out.

    Raises:
        The error of the last config, if all raised one.
    """
    measured, failure = {}, None
    for config in configs:
        try:
            measured[config] = seconds_of(config)
        except Exception as error:  # Triton's, the driver's, torch's
            failure = error
    if not measured:
        raise failure
    return min(measured, key=measured.get)
