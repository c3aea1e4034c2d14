"""Addresses of sources: how one is recognised, and how it is shown in messages, with its passwords masked."""

from __future__ import annotations

import re
from contextlib import suppress
from urllib.parse import quote, unquote

LIVE_SCHEMES = frozenset({"rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "srt"})
"""The schemes of live addresses, whose frames come at their own pace and only once."""
_KNOWN = (*sorted(LIVE_SCHEMES), "http", "https", "ftp", "tcp", "tls")
MASK = "***"
SHORTEST = 4
"""The shortest password that is looked for outside its address too; a shorter one is part of many words."""

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_NAMES = (
    r"pass(?:wor[dt]|wd|phrase|code)?|pas|pwd|psw|pw|pin|secret|token|jwt|key|auth|authorization|sig|signature|"
    r"credentials?|session(?:_?id)?|sid"
)
_SECRETS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # FFmpeg takes the last @ before a slash for the end of the password.
        r"://[^\s:/?#]*(?::|%3a)(?P<secret>[^\s/?#]*)@",
        # A slash in a password should have been written %2F; what looks like a port is none.
        r"://(?!\[)[^\s:/?#]*:(?!\d+(?:[/?#\s'\"]|$))(?P<secret>\S*)@",
        # An address that is encoded within another one.
        r"%3a%2f%2f[^\s&/]*?%3a(?P<secret>[^\s&/]*)%40",
        # A value with a telling name, in a query or, as some cameras have it, in the path.
        rf"(?:[?&;/_]|%3f|%26)[\w%-]*(?:{_NAMES})(?:=|%3d)(?P<secret>[^&\s'\"<>]+)",
        # Without a scheme FFmpeg sees no address, and the password is in the name of a file that isn't there.
        r"(?<![^\s'\"/])[^\s:/?#@'\"]+:(?!//)(?P<secret>[^\s/@'\"]+)@[\w.-]+",
    )
)


def scheme_of(spec: str) -> str | None:
    """The scheme of an address in lower case, as in "rtsp"; None for what is no address."""
    found = _SCHEME.match(spec)
    return found[1].lower() if found else None


def whole_address(spec: str) -> str:
    """Return an address with both its slashes, one of which `pathlib.Path` drops; anything else comes back
    unchanged."""
    return re.sub(rf"^({'|'.join(_KNOWN)}):/(?=[^/])", r"\1://", spec, flags=re.IGNORECASE)


def shown(address: str) -> str:
    """Return an address as messages and reports show it: with its passwords masked, even those with spaces, and with
    question marks for bytes of a file's name that are no text."""
    address = address.encode("utf-8", "replace").decode()
    return masked(_without_spaces(address)) if scheme_of(address) else masked(address)


def masked(text: str, *, address: str = "") -> str:
    """Return a text with ``***`` for the passwords of the addresses in it.

    Args:
        text: an address, or a message that may hold some.
        address: an address whose password is masked wherever else it stands in the text, plain or percent-encoded.
    """
    for secret in sorted(_secrets(address), key=len, reverse=True):
        text = text.replace(secret, MASK)
    for pattern in _SECRETS:
        text = pattern.sub(_covered, text)
    return text


def hide(error: BaseException | None, address: str) -> None:
    """Mask the password of an address in an error, and in the errors that it came from, which a traceback shows too."""

    def covered(part: object) -> object:
        if isinstance(part, tuple):
            return tuple(map(covered, part))
        return masked(part, address=address) if isinstance(part, str) else part

    while error is not None:
        error.args = covered(error.args)
        # Errors of the system keep these beside their arguments; FFmpeg's read some of them from there.
        for name in ("strerror", "filename"):
            # One of the system's that has none of these says other things once they are set.
            if isinstance(part := getattr(error, name, None), str):
                with suppress(AttributeError):
                    setattr(error, name, covered(part))
        error = error.__cause__ or error.__context__


def _covered(match: re.Match[str]) -> str:
    start, end = (place - match.start() for place in match.span("secret"))
    return f"{match[0][:start]}{MASK}{match[0][end:]}"


def _without_spaces(address: str) -> str:
    return re.sub(r"\s", lambda space: quote(space[0]), address)


def _secrets(address: str) -> set[str]:
    """The passwords in an address, as they are written and decoded."""
    address = _without_spaces(address)
    found = {match["secret"] for pattern in _SECRETS for match in pattern.finditer(address)}
    return {word for secret in found for word in (secret, unquote(secret)) if len(word) >= SHORTEST}
