"""The operators on tensors spread over two processes: the numbers of one, wherever images, channels or taps lie."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed
import torch.multiprocessing

sys.path.append(str(Path(__file__).parent))

from svconv_cases import Case

from svconv import correlation2d, svconv2d

CASES = [
    Case((3, 4, 5, 6), kernel_size=3, padding_mode="renormalize"),
    Case((2, 4, 5, 6), kernel_size=3, dilation=2, groups=2),
    Case((2, 4, 5, 6), kernel_size=3, normalize=False),
    # Logits are reshaped on the way: no part of them could be by itself.
    Case((3, 6, 5, 7), kernel_size=3, groups=3, tap_major=True),
    Case((3, 4, 5, 7), kernel_size=3, dilation=2, padding_mode="reflect", taps="correlation", scale=2),
]


def on_each(rank: int, store: str) -> None:
    """The body of a process."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Partial, Replicate, Shard, distribute_tensor

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    for case in CASES:
        tensors = case.tensors()
        for places in (
            (Shard(0), Shard(0)),
            (Shard(1), Replicate()),
            (Shard(1), Shard(1)),
            (Replicate(), Shard(0)),
            (Shard(2), Shard(2)),
        ):
            check(
                case,
                tensors,
                [distribute_tensor(t, mesh, [p]) for t, p in zip(tensors, (*places, places[0]), strict=True)],
            )
    # What can be computed where the parts lie stays there.
    input, logits, grad_out = CASES[0].tensors()
    input = distribute_tensor(input, mesh, [Shard(1)]).requires_grad_()
    logits = distribute_tensor(logits, mesh, [Replicate()]).requires_grad_()
    out = svconv2d(input, logits, **CASES[0].options)
    assert out.placements == (Shard(1),), out.placements
    gradients = torch.autograd.grad(out, (input, logits), distribute_tensor(grad_out, mesh, [Shard(1)]))
    assert [g.placements for g in gradients] == [(Shard(1),), (Partial(),)], gradients
    # Under load a process that ended while the other one still computed was aborted in gloo's threads.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def check(case, whole, spread) -> None:
    for function, options in (
        (svconv2d, case.options),
        # Without softmax there is no "renormalize".
        (correlation2d, {n: v for n, v in case.correlation_options.items() if v != "renormalize"}),
    ):
        results = []
        for tensors in (whole, spread):
            input, other, grad_out = (t.detach().requires_grad_() for t in tensors)
            if function is correlation2d:
                input, other = grad_out, input
            out = function(input, other, **options)
            gradients = torch.autograd.grad((out * out).sum(), (input, other))
            results.append([t.full_tensor() if hasattr(t, "full_tensor") else t for t in (out, *gradients)])
        torch.testing.assert_close(*results)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without torch.distributed")
def test_results_and_gradients_of_spread_tensors_are_those_of_whole_ones(tmp_path):
    torch.multiprocessing.spawn(on_each, (str(tmp_path / "store"),), nprocs=2)


def test_the_rules_can_be_imported_first():
    """Importing them imports DTensor, which has the operators register with it meanwhile."""
    used = "import torch, svconv; svconv.svconv2d(torch.zeros(1, 1, 3, 3), torch.zeros(1, 81, 3, 3))"
    subprocess.run([sys.executable, "-c", f"{used}; import svconv.sharding"], check=True)
