"""Networks that go by the name of the function that makes them, as in ``mynet:network``. For `lowlat.models`."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lowlat.networks.video_network import VideoNetwork


def returned_by(name: str, options: dict[str, Any]) -> VideoNetwork:
    """Return the network that the function called ``package.module:function`` returns. The module is found on
    ``sys.path`` or in the current folder.

    Args:
        options: keyword arguments of the function.

    Raises:
        ValueError: there is no such module or function, a package that it imports is missing, its code raises an error,
            or it returns something else.
    """
    function = _function(name)
    try:
        network = function(**options)
    except ValueError as error:
        if str(error).startswith(("adopt: ", "load: ", "build: ")):
            raise
        raise _raised(name, error) from error
    except Exception as error:
        raise _raised(name, error) from error
    if not isinstance(network, VideoNetwork):
        raise ValueError(
            f"build: expected {name} to return a network that lowlat.adopt made, got {type(network).__name__}; return "
            "what lowlat.adopt returns"
        )
    return network


def _raised(name: str, error: Exception) -> ValueError:
    """Say which error code outside this project raised, and in which of its lines."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in line {frames[-1].lineno} of {Path(frames[-1].filename).name}" if frames else ""
    words = " ".join(str(error).split())[:300]
    return ValueError(
        f"build: expected {name} to return a network, got {type(error).__name__}: {words}{place}; mend it, and try it "
        "by calling it in Python"
    )


def _function(name: str) -> Callable[..., object]:
    module, _, function = name.partition(":")
    if not function.isidentifier() or not all(part.isidentifier() for part in module.removesuffix(".py").split(".")):
        raise ValueError(f"build: expected a network's name as in package.module:function, got {name!r}")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        home = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and not f"{module}.".startswith(f"{error.name}."):
            raise ValueError(
                f"build: expected the package {error.name}, which {module} imports, found none; install it, or what "
                "brings it"
            ) from error
        if module.endswith(".py"):
            raise ValueError(
                f"build: expected a module's name, got that of a file; give {module.removesuffix('.py')}:{function} in "
                "its folder"
            ) from error
        raise ValueError(
            f"build: expected the module {module!r} of {name!r} on sys.path or in {folder}, found none; start in its "
            "folder, or name that in PYTHONPATH"
        ) from error
    except Exception as error:
        raise _raised(name, error) from error
    found = getattr(home, function, None)
    if not callable(found):
        raise ValueError(
            f"build: expected a function {function!r} in the module {module}, found none; write one that returns what "
            "lowlat.adopt returns"
        )
    return found
