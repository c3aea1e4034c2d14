"""Every method behind the one interface: what it computes, against plain readings of its formula."""

import pytest
import torch
import torch.nn.functional as F

from lowlat.lab.data.street import Street
from lowlat.lab.methods import METHODS, View, build
from lowlat.lab.methods.flow import compose, resize_flow, warp
from lowlat.lab.methods.kernels import ImageKernel
from svconv import svconv2d

SIZE = (72, 96)


def still(index):
    return torch.zeros(2, *SIZE)


@pytest.fixture(scope="module")
def views(tiny_network):
    """Two frames, smooth enough for an optical flow, and F_h of the first."""
    noise = torch.rand(2, 3, 9, 12, generator=torch.Generator().manual_seed(0))
    frames = (F.interpolate(noise, SIZE, mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)
    with torch.no_grad():
        low = tiny_network.lower(tiny_network.normalise(frames))
        high = tiny_network.higher(low)
    return View(frames[:1], low[:1], 0), View(frames[1:], low[1:], 1), high[:1]


@pytest.fixture(autouse=True)
def inference():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("name", METHODS)
def test_every_method_keeps_the_interface(name, tiny_network, views):
    key, current, high = views
    method = build(name, tiny_network, flow=still)
    scores, carried = method.carry(method.begin(key, high), current)
    assert scores.shape[:2] == (1, 11) and carried.shape == high.shape
    # What was carried may start a temporary key frame.
    scores, _ = method.carry(method.begin(current, carried), current._replace(index=2))
    assert scores.isfinite().all()
    assert method.trained == bool(list(method.learned.parameters()))


@pytest.mark.parametrize("name", ["flow", "exact-flow", "reuse"])
def test_a_frame_that_did_not_move_keeps_its_labels(name, tiny_network, views):
    key, _, high = views
    method = build(name, tiny_network, flow=still)
    scores, carried = method.carry(method.begin(key, high), key._replace(index=1))
    assert torch.allclose(carried, high, atol=1e-4)
    assert torch.allclose(scores, tiny_network.classify(high), atol=1e-4)


def test_reuse_and_clockwork_leave_high_in_place(tiny_network, views):
    key, current, high = views
    reuse, clockwork = build("reuse", tiny_network), build("clockwork", tiny_network)
    assert torch.equal(reuse.carry(reuse.begin(key, high), current)[0], tiny_network.classify(high))
    scores, carried = clockwork.carry(clockwork.begin(key, high), current)
    assert carried is high
    assert torch.equal(scores, tiny_network.fuse(high, tiny_network.reduce(current.low)).scores)


def test_adaptive_methods_are_the_networks_own_stages(tiny_network, views):
    key, current, high = views
    reduced = tiny_network.reduce(current.low)
    propagated = tiny_network.propagate(tiny_network.anchor(tiny_network.reduce(key.low)), high, reduced)
    for name, scores in (
        ("adaptive", tiny_network.classify(propagated)),
        ("adaptive-fusion", tiny_network.fuse(propagated, reduced).scores),
    ):
        method = build(name, tiny_network)
        got = method.carry(method.begin(key, high), current)
        assert torch.equal(got[0], scores) and torch.equal(got[1], propagated)


@pytest.mark.parametrize("name", ["adaptive-fusion", "clockwork"])
def test_a_fusion_that_corrects_is_carried_on(name, tiny_matching_network, views):
    network, (key, current, high) = tiny_matching_network, views
    reduced = network.reduce(current.low)
    if name == "adaptive-fusion":
        moved = network.propagate(network.anchor(network.reduce(key.low)), high, reduced)
    else:
        moved = high
    method = build(name, network)
    scores, carried = method.carry(method.begin(key, high), current)
    fused = network.fuse(moved, reduced)
    assert torch.equal(carried, fused.high) and not torch.equal(carried, moved)
    assert torch.equal(scores, fused.scores)


@pytest.mark.parametrize("name", [name for name, kind in METHODS.items() if kind.trained])
def test_training_a_method_changes_the_network_only_where_it_is_the_networks_own(name, tiny_network):
    method = build(name, tiny_network)
    of_network = {id(parameter) for parameter in tiny_network.parameters()}
    shared = [id(parameter) in of_network for parameter in method.learned.parameters()]
    assert all(shared) if name == "adaptive-fusion" else not any(shared)


def test_unified_is_one_convolution(tiny_network, views):
    key, current, high = views
    method = build("unified", tiny_network)
    method.kernel.logits.normal_(generator=torch.Generator().manual_seed(0))
    method.network.padding_mode, before = "zeros", tiny_network.padding_mode
    try:
        _, carried = method.carry(method.begin(key, high), current)
    finally:
        method.network.padding_mode = before
    weight = method.kernel.logits.softmax(0).view(1, 1, 9, 9).flip(2, 3).expand(high.shape[1], 1, 9, 9)
    assert torch.allclose(carried, F.conv2d(high, weight, padding=4, groups=high.shape[1]), atol=1e-5)


def test_image_kernels_find_where_the_colour_came_from():
    random = torch.Generator().manual_seed(0)
    key = torch.rand(1, 3, 13, 17, generator=random)
    current = key.roll((2, -3), (2, 3))  # what is at x was at x - (2, -3)
    kernel = ImageKernel(9)
    kernel.log_colour.fill_(-9.0)
    kernel.log_place.fill_(9.0)
    logits = kernel(key, current)
    inside = logits[0, :, 5:-5, 5:-5]
    assert (inside.argmax(0) == (2 + 4) * 9 + (-3 + 4)).all()
    carried = svconv2d(key, logits, kernel_size=9)
    assert torch.allclose(carried[..., 5:-5, 5:-5], current[..., 5:-5, 5:-5], atol=0.02)


def test_image_kernels_follow_their_formula():
    random = torch.Generator().manual_seed(1)
    key, current = torch.rand(2, 2, 3, 7, 8, generator=random)
    logits = ImageKernel(5)(key, current).view(2, 5, 5, 7, 8)
    u, v = -1, 2
    expected = -(current[1, :, 3, 4] - key[1, :, 3 - u, 4 - v]).square().sum() / 0.02 - (u * u + v * v) / 4.0
    assert logits[1, u + 2, v + 2, 3, 4] == pytest.approx(expected.item(), rel=1e-4)


def ramp(height, width):
    """Its value at (y, x) is (x, y)."""
    y, x = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    return torch.stack((x, y))[None]


def test_warping_reads_at_x_plus_flow():
    maps, flow = ramp(7, 9), torch.zeros(1, 2, 7, 9)
    flow[:, 0], flow[:, 1] = 1.5, -2.0
    warped = warp(maps, flow)
    inside = (..., slice(2, None), slice(None, -2))
    assert torch.allclose(warped[inside], (maps + flow)[inside], atol=1e-5)


def test_flow_is_resized_in_units_of_the_map():
    flow = torch.ones(1, 2, 72, 96) * torch.tensor([8.0, -4.0]).view(1, 2, 1, 1)
    small = resize_flow(flow, torch.empty(1, 5, 9, 24))
    assert small.shape == (1, 2, 9, 24)
    assert torch.allclose(small[:, 0], torch.tensor(2.0)) and torch.allclose(small[:, 1], torch.tensor(-0.5))


def test_flows_compose_along_the_path():
    # A zoom: the step from each frame to the one before is 10 % of the distance from the corner.
    step = -0.1 * ramp(20, 30)
    assert torch.allclose(compose([step] * 3), (0.9**3 - 1) * ramp(20, 30), atol=1e-4)


def test_the_streets_flow_composed_brings_the_key_frame_to_the_current_one():
    street = Street(seed=1, size=(90, 120), frames=6)
    key, current = (street.image(index).float()[None] for index in (1, 4))
    warped = warp(key, compose([street.flow(index)[None] for index in (4, 3, 2)]))
    seen = street.visible(4)
    error, before = ((image - current).abs().mean(1)[0][seen].mean() for image in (warped, key))
    # The rest is light and texture at so small a size: 0.69 of it; against the flow it is 1.16.
    assert error < 0.8 * before


def test_exact_flow_asks_for_the_frames_since_the_key_frame(tiny_network, views):
    key, current, high = views
    asked = []
    method = build("exact-flow", tiny_network, flow=lambda index: asked.append(index) or still(index))
    method.carry(method.begin(key._replace(index=3), high), current._replace(index=6))
    assert sorted(asked) == [4, 5, 6]
    with pytest.raises(ValueError, match="after key frame 3, got 3"):
        method.carry(method.begin(key._replace(index=3), high), current._replace(index=3))
    with pytest.raises(ValueError, match="one frame with its index, got 1 and index None"):
        method.begin(key._replace(index=None), high)


def test_estimated_flow_follows_a_shift(tiny_network):
    noise = torch.rand(1, 3, 30, 40, generator=torch.Generator().manual_seed(0))
    wide = (F.interpolate(noise, (240, 320), mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)
    key, current = (View(wide[..., x : x + 256], torch.empty(0)) for x in (32, 40))  # everything moves 8 to the left
    high = torch.rand(1, 16, 30, 32, generator=torch.Generator().manual_seed(1))
    method = build("flow", tiny_network)
    _, carried = method.carry(method.begin(key, high), current)
    difference = (carried - high.roll(-1, 3))[..., 3:-3, 3:-3].abs().mean()
    assert difference < 0.1 * (high - high.roll(-1, 3)).abs().mean()


def test_what_cannot_be_built_says_why(tiny_network, monkeypatch):
    with pytest.raises(ValueError, match="method among reuse, .*got 'teleport'"):
        build("teleport", tiny_network)
    with pytest.raises(ValueError, match="exact-flow: expected data that knows its optical flow, got none"):
        build("exact-flow", tiny_network)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"flow: expected OpenCV, found none; pip install opencv-python-headless"):
        build("flow", tiny_network)
