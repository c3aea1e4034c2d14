"""The names of the service's videos, and the sources that its command line gives them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from lowlat.runtime.words import counted
from lowlat.serve.reading import check_source
from lowlat.video.address import scheme_of

NAME = re.compile(r"[\w-]{1,40}", re.ASCII)


def check_name(name: str | None) -> None:
    """Raise ValueError if a name is given that no video may have."""
    if name is not None and not NAME.fullmatch(name):
        raise ValueError(f"serve: expected a name of 1 to 40 letters, digits, - or _, got {name!r}; choose another")


def named_source(words: str) -> tuple[str | None, str]:
    """Split ``NAME=SOURCE``. The name is None if there is none, or if a file is called like the whole."""
    name, equals, spec = words.partition("=")
    if equals and NAME.fullmatch(name) and not Path(words).exists():
        return name, spec
    return None, words


def named_sources(sources: Sequence[str]) -> list[tuple[str, str]]:
    """Split each of the sources, and give those without a name one that no other has, whether it comes before or
    after."""
    found = [named_source(words) for words in sources]
    taken = [name for name, _ in found if name]
    for place, (name, spec) in enumerate(found):
        if name is None:
            found[place] = free_name(spec, taken), spec
            taken.append(found[place][0])
    return found


def check_sources(sources: Sequence[str], most_videos: int) -> None:
    """Check the sources that are to be opened at the start, before anything is loaded.

    Raises:
        ValueError: there are more than ``most_videos``, two have one name, or a recording can't be opened.
    """
    if len(sources) > most_videos:
        raise ValueError(
            f"serve: expected at most {counted(most_videos, 'source')}, got {len(sources)}; leave some out, or raise "
            "--max-videos"
        )
    names = [name for name, _ in map(named_source, sources) if name]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"serve: expected a name for each source, got {name!r} twice; choose another")
    for words in sources:
        check_source(named_source(words)[1])


def free_name(spec: str | None, taken: Collection[str]) -> str:
    """Make a name from a source that none of those ``taken`` equals."""
    if spec is None:
        stem = "frames"
    elif scheme_of(spec):
        # The host stands for an address, without user and password.
        stem = re.split(r"[:/?#]", spec.partition("://")[2].rpartition("@")[2])[0]
    else:
        stem = f"camera-{spec}" if spec.isdecimal() else Path(spec).stem
    stem = re.sub(r"[^\w-]+", "-", stem, flags=re.ASCII).strip("-")[:30] or "video"
    names = [stem, *(f"{stem}-{number}" for number in range(2, len(taken) + 2))]
    return next(name for name in names if name not in taken)
