"""Makes policies from the words of a command line."""

from __future__ import annotations

from lowlat.schedule.policies import MEASURED, POLICIES, Policy


def make_policy(
    name: str, *, interval: float | None = None, threshold: float | None = None, cut: float | None = None
) -> Policy:
    """Make a policy from the words of a command line.

    Args:
        name: a name in `POLICIES`.
        interval: frames between key frames; "every" needs it, others refuse it.
        threshold: the value above which a frame becomes a key frame; the policies of `MEASURED` need it, others refuse
            it.
        cut: the value above which the scene is taken to have changed; None keeps the policy's own.

    Raises:
        ValueError: an unknown name, or an option that is missing, of no use to the policy, or out of range.
    """
    if name not in POLICIES:
        raise ValueError(
            f"policy: expected --policy to be one of {', '.join(POLICIES)}, got {name!r}; name one of them"
        )
    given = {"interval": interval, "threshold": threshold, "cut": cut}
    needed = ("threshold",) if name in MEASURED else ("interval",) if name == "every" else ()
    allowed = (*needed, "cut") if name in MEASURED else needed
    for option in needed:
        if given[option] is None:
            raise ValueError(f"policy: policy {name!r} needs {option}, got none; give --{option}")
    for option, value in given.items():
        if value is not None and option not in allowed:
            raise ValueError(f"policy: policy {name!r} has no {option}, got {value!r}; leave out --{option}")
    options = {option: given[option] for option in allowed if given[option] is not None}
    return POLICIES[name](**options)


def choose_policy(name: str | None, interval: float | None, threshold: float | None) -> Policy | None:
    """Make a policy from the words of a command line; without any, the default: adaptive, at the weights' own
    threshold."""
    if name is None and (interval is not None or threshold is not None):
        given = "--interval" if interval is not None else "--threshold"
        raise ValueError(f"policy: expected --policy beside {given}, got none; name the policy it belongs to")
    if name is None or (name == "adaptive" and threshold is None and interval is None):
        return None
    return make_policy(name, interval=interval, threshold=threshold)
