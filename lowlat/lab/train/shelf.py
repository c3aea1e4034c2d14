"""Examples drawn once and kept, on disk or in memory: a step then costs the trained modules alone.

On disk they lie in files of `TOGETHER` examples, each whole or not there, each drawn from a generator of its own: a run
that was stopped goes on with the files that are missing, and several processes share the work.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Generator, Tensor

from lowlat.jobs.progress import progress_bar
from lowlat.lab.train import processes
from lowlat.lab.train.batch import seeded
from lowlat.lab.train.records import save_state
from lowlat.lab.writing import writable
from lowlat.video.files import whole_file

TOGETHER = 8  # examples a file
STREAM = 1 << 20  # keeps the seeds of files apart from those of steps

Draw = Callable[[range, Generator], list[Tensor]]
"""Draws the examples of the given numbers: tensors of one row an example."""


class Shelf:
    """``count`` examples by ``draw``.

    Args:
        name: what the examples are called in the progress bar.
        seed: the seed of all draws.
        folder: where the files go; None to keep the examples in memory.
        about: what the examples hang on, by name; a folder begun with something else is refused.

    Raises:
        ValueError: the folder holds other examples, a file of it can't be read, or the disk is too small.
    """

    def __init__(
        self,
        name: str,
        draw: Draw,
        count: int,
        *,
        seed: int,
        folder: Path | None = None,
        about: Mapping[str, object] | None = None,
    ):
        self.name, self.draw, self.count, self.seed, self.folder = name, draw, count, seed, folder
        parts = [range(first, min(first + TOGETHER, count)) for first in range(0, count, TOGETHER)]
        if folder is None:
            with progress_bar() as progress:
                tracked = enumerate(progress.track(parts, description=name))
                self._parts = [self._drawn(number, part) for number, part in tracked]
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"train: expected a folder to keep {name} in, got {str(folder)!r}: {error.strerror}; choose another by "
                "--bank"
            ) from error
        self._check({"count": count, "seed": seed, **(about or {})})
        self._write(folder, parts)
        processes.wait()
        self._parts = [_read(_file(folder, number)) for number in range(len(parts))]

    def __len__(self) -> int:
        return self.count

    def column(self, place: int) -> Tensor:
        """One tensor of all examples, in the order in which ``draw`` gives them."""
        return torch.cat([part[place] for part in self._parts])

    def batch(self, count: int, generator: Generator) -> list[Tensor]:
        """Draw ``count`` of the examples: tensors of ``count`` rows."""
        chosen = torch.randint(self.count, (count,), generator=generator).tolist()
        rows = [[column[index % TOGETHER] for column in self._parts[index // TOGETHER]] for index in chosen]
        return [torch.stack(column) for column in zip(*rows, strict=True)]

    def remove(self) -> None:
        """Remove the files: the stage that needed them is done. What is read of them stays readable till the end."""
        if self.folder is not None and processes.rank() == 0:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _drawn(self, number: int, part: range) -> list[Tensor]:
        return self.draw(part, seeded(self.seed, STREAM + number))

    def _check(self, about: dict[str, object]) -> None:
        """Write what the examples hang on, or compare it with what the folder says."""
        path, about = self.folder / "about.json", json.loads(json.dumps(about))
        if path.is_file():
            try:
                begun = dict(json.loads(path.read_text()))
            except (ValueError, TypeError) as error:
                raise ValueError(
                    f"train: expected what the {self.name} hang on in {path}, got a file that can't be read ({error}); "
                    f"remove {self.folder} to start afresh"
                ) from error
            for name in {**begun, **about}:
                if begun.get(name) != about.get(name):
                    raise ValueError(
                        f"train: expected {name}={begun.get(name)} as in {path}, got {about.get(name)}; go on with the "
                        f"same data and options, or remove {self.folder}"
                    )
        elif processes.rank() == 0:
            with writable("train", path), whole_file(path, durable=True) as part:
                part.write_text(json.dumps(about, indent=1))
        processes.wait()

    def _write(self, folder: Path, parts: list[range]) -> None:
        """Write the files that are missing, this process's share of them."""
        missing = [number for number in range(len(parts)) if not _file(folder, number).is_file()]
        mine = missing[processes.rank() :: processes.world()]
        with progress_bar() as progress:
            bar = progress.add_task(self.name, total=len(missing), completed=len(missing) - len(mine))
            for turn, number in enumerate(mine):
                tensors = self._drawn(number, parts[number])
                if turn == 0:
                    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors) / len(parts[number])
                    _check_space(self.name, folder, size, sum(len(parts[number]) for number in missing))
                    progress.update(bar, description=f"{self.name}, {size * self.count / 1e9:.2f} GB")
                save_state(_file(folder, number), {"tensors": [tensor.clone() for tensor in tensors]})
                progress.advance(bar)


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:05}.pt"


def _read(path: Path) -> list[Tensor]:
    """Return the tensors of a file, which stay on the disk until they are looked at."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)["tensors"]
    except Exception as error:
        raise ValueError(
            f"train: expected examples at {path}, got a file that can't be read ({error}); remove it to draw them again"
        ) from error


def _check_space(name: str, folder: Path, size: float, count: int) -> None:
    free = shutil.disk_usage(folder).free
    if size * count > free:
        raise ValueError(
            f"train: expected {size * count / 1e9:.2f} GB of free disk at {folder} for {count} {name}, got "
            f"{free / 1e9:.2f}; ask for fewer by --pairs, draw them afresh by --pairs 0, or keep them elsewhere by "
            "--bank"
        )
