"""Fake tensors, which have shapes and no numbers, in a network; and the count of what autograd keeps of a step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks

from lowlat.networks.video_network import VideoNetwork


class Kept:
    """The bytes that autograd keeps, each memory counted once; parameters are not counted."""

    def __init__(self) -> None:
        self.bytes, self._seen = 0, {}

    def add(self, value) -> None:
        """Count the tensors in a value, a tensor or a tuple of them."""
        if isinstance(value, tuple):
            for part in value:
                self.add(part)
        elif isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
            storage = value.untyped_storage()
            if storage._cdata not in self._seen:
                # Held on to: another memory could get the same address.
                self._seen[storage._cdata] = storage
                self.bytes += storage.nbytes()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside the block, what autograd keeps is counted."""

        def pack(tensor: Tensor) -> Tensor:
            self.add(tensor)
            return tensor

        with saved_tensors_hooks(pack, lambda tensor: tensor):
            yield


@contextmanager
def faked(network: VideoNetwork) -> Iterator[None]:
    """Inside the block all tensors are fake, those of ``network`` too; afterwards it has its own again."""
    # An adopted network holds tensors of its own beside its parameters.
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    own = [(module, dict(module._parameters), dict(module._buffers)) for module in network.modules()]
    state = [(module, module.training) for module in network.modules()]
    asked = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    fakes: dict[int, Tensor] = {}

    def fake(tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        if id(tensor) not in fakes:
            made = mode.from_tensor(tensor.detach())
            fakes[id(tensor)] = nn.Parameter(made) if isinstance(tensor, nn.Parameter) else made
        return fakes[id(tensor)]

    for module, parameters, buffers in own:
        module._parameters.update({name: fake(tensor) for name, tensor in parameters.items()})
        module._buffers.update({name: fake(tensor) for name, tensor in buffers.items()})
    try:
        with mode:
            yield
    finally:
        for module, parameters, buffers in own:
            module._parameters.update(parameters)
            module._buffers.update(buffers)
        for module, training in state:
            module.training = training
        for parameter, wanted in asked:
            parameter.requires_grad_(wanted)
