"""`AllowList`: the sources that a request may name are those that whoever started the service has allowed, and no
others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from lowlat.video.address import scheme_of, shown

_PLAIN = re.compile(r"[\w.~:/?#\[\]@!$&'()*+,;=%-]+", re.ASCII)
"""The characters of an address (RFC 3986). A program that reads one with others in it may read another host."""
_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "rtmp": 1935}


class AllowList:
    """Decides which sources a request may name. Without entries it allows none.

    Args:
        entries: addresses, whose scheme, host and port a source must have, and whose path its own must begin with;
            numbers of cameras; files, and folders of files.

    Raises:
        ValueError: an entry that allows nothing.
    """

    def __init__(self, entries: Sequence[str] = ()) -> None:
        for entry in filter(_no_entry, entries):
            raise ValueError(
                f"serve: expected --allow-source with an address, a camera's number, a file or a folder, got "
                f"{shown(entry)!r}; mend it, or leave it out"
            )
        self._addresses = [urlsplit(entry) for entry in entries if scheme_of(entry)]
        others = [entry for entry in entries if not scheme_of(entry)]
        self._cameras = {int(entry) for entry in others if entry.isdecimal()}
        self._paths = [Path(entry).resolve() for entry in others if not entry.isdecimal()]

    def __bool__(self) -> bool:
        return bool(self._addresses or self._cameras or self._paths)

    def check(self, spec: str) -> None:
        """Let a source pass.

        Raises:
            PermissionError: it is not allowed. The message does not tell whether the source exists.
        """
        if scheme_of(spec):
            passes = self._address(spec)
        elif spec.isdecimal():
            passes = int(spec) in self._cameras
        else:
            passes = self._path(spec)
        if not passes:
            raise PermissionError(
                f"serve: expected a source that is allowed, got {shown(spec)!r}; start the service with "
                "--allow-source and it, or what it begins with"
            )

    def _address(self, spec: str) -> bool:
        if not _PLAIN.fullmatch(spec) or spec.count("@") > 1:
            return False
        try:
            asked = urlsplit(spec)
            return any(_within(asked, allowed) for allowed in self._addresses)
        except ValueError:
            return False

    def _path(self, spec: str) -> bool:
        try:
            path = Path(spec).resolve()
            return path.exists() and any(path == allowed or allowed in path.parents for allowed in self._paths)
        except (OSError, ValueError):
            return False


def _no_entry(entry: str) -> bool:
    """Whether words allow nothing. Empty words would allow the folder that the service was started in."""
    try:
        if scheme_of(entry):
            _port(urlsplit(entry))
    except ValueError:
        return True
    return not entry


def _within(asked: SplitResult, allowed: SplitResult) -> bool:
    """Whether the address ``asked`` is ``allowed``, or lies below it."""
    if (asked.scheme, asked.hostname, _port(asked)) != (allowed.scheme, allowed.hostname, _port(allowed)):
        return False
    path, folder = unquote(asked.path), allowed.path.rstrip("/")
    return ".." not in path.split("/") and (path == folder or path.startswith(f"{folder}/"))


def _port(address: SplitResult) -> int | None:
    return address.port or _PORTS.get(address.scheme)
