"""Registers the operators with modules of torch when those are imported by somebody else.

Importing them all here would make `import svconv` take seconds, even for programs that never count FLOPs, compile or
shard.
"""

import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.util import find_spec

_waiting: dict[str, list[Callable[[], object]]] = {}


def when_imported(module: str, act: Callable[[], object]) -> None:
    """Call `act()` once the module is there: at once if it has been imported, otherwise right after its first
    import."""
    if module in sys.modules:
        act()
        return
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    _waiting.setdefault(module, []).append(act)


def constant_to_compilers(function: Callable) -> Callable:
    """Return the same function, whose answer `torch.compile` takes as a constant instead of tracing the function."""

    def mark() -> None:
        import torch

        torch.compiler.assume_constant_result(function)

    when_imported("torch._dynamo", mark)
    return function


class _Finder(MetaPathFinder):
    """Finds the modules that are waited for by means of the other finders, and acts once they have been executed."""

    def __init__(self) -> None:
        self.looking: set[str] = set()

    def find_spec(self, fullname, path=None, target=None):
        if fullname not in _waiting or fullname in self.looking:
            return None
        self.looking.add(fullname)
        try:
            spec = find_spec(fullname)
        finally:
            self.looking.discard(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_act(module):
                execute(module)
                for act in _waiting.pop(fullname, ()):
                    act()

            spec.loader.exec_module = execute_and_act
        return spec


_FINDER = _Finder()
