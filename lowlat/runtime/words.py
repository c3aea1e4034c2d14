"""Numbers in messages."""


def counted(number: float, noun: str) -> str:
    """A number of things in words: "1 frame", "3 frames"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
