"""What is done to a network before it runs changes nothing but rounding: each option by itself and all together, on the
stages of the CPU and on those of a stream, against the plain network."""

import copy
from dataclasses import fields

import numpy as np
import pytest
import torch
from fake_device import FakeDevice
from torch.nn import BatchNorm2d

from lowlat.lab.replay import ReplayWorker
from lowlat.networks.labels import full_size_labels
from lowlat.runtime import Engine, KeyFrame
from lowlat.runtime.gpu.isolation import Turns
from lowlat.runtime.gpu.programs import NetworkPrograms
from lowlat.runtime.gpu.stages import GpuStages
from lowlat.runtime.gpu.worker import GpuWorker
from lowlat.runtime.options import Options, prepared
from lowlat.runtime.stages import NetworkStages
from lowlat.schedule import Adaptive, Schedule, Signal

pytestmark = pytest.mark.usefixtures("one_thread")
PLAIN = Options(channels_last=False, fold=False, pointwise=False, graphs=False)
# Relative to the largest value: eps times a hundred, for sums over up to 300 products in a dozen layers.
TOLERANCES = {"float32": 1e-5, "bfloat16": 8e-2, "float16": 1e-2}
CHANGES = {
    "channels-last": {"channels_last": True},
    "folded": {"fold": True},
    "pointwise by oneDNN": {"pointwise": True},
    "all of them": {"channels_last": True, "fold": True, "pointwise": True},
    "bfloat16": {"dtype": "bfloat16", "channels_last": True, "fold": True},
    "float16": {"dtype": "float16", "channels_last": True, "fold": True},
}
SIZE = (48, 64)


@pytest.fixture(scope="module")
def frames():
    """Two frames of a smooth picture, three pixels apart."""
    grid = torch.rand(1, 3, 6, 9, generator=torch.Generator().manual_seed(1)) * 255
    wide = torch.nn.functional.interpolate(grid, (SIZE[0], SIZE[1] + 3), mode="bicubic").clamp(0, 255)
    picture = wide[0].permute(1, 2, 0).to(torch.uint8)
    return [np.ascontiguousarray(picture[:, step : step + SIZE[1]].numpy()) for step in (0, 3)]


def options(change):
    values = {field.name: getattr(PLAIN, field.name) for field in fields(PLAIN)}
    return Options(**{**values, **CHANGES[change]})


@torch.inference_mode()
def defined(network, frames):
    """What the network computes, written without any of the runtime: F_l, F_h, the F_h that is carried on, scores of
    both frames, deviation."""
    network = copy.deepcopy(network).eval()
    lows = [network.lower(network.normalise(torch.from_numpy(frame).permute(2, 0, 1)[None])) for frame in frames]
    key, current = (network.reduce(low) for low in lows)
    high = network.higher(lows[0])
    anchor = network.anchor(key)
    scores, carried = network.fuse(network.propagate(anchor, high, current), current)
    return {
        "low": lows[1],
        "high": high,
        "propagated": carried,
        "scores": scores,
        "key scores": network.classify(high),
        "deviation": network.deviation(anchor, current),
    }


def computed(programs, frames, segments=1):
    """The same by the programs of a stream, in their own memory."""
    makers = programs.makers(SIZE)
    memory = {name: make() for name, make in makers.items()}
    labels = {}
    lows = [makers["low"](), makers["low"]()]
    for frame, low in zip(frames, lows, strict=True):
        programs.load(frame)(memory["frame"])
        memory["image"].copy_(memory["frame"])
        programs.lower(memory["image"], low)
    programs.hold(lows[0], memory["kept"], memory["base"], memory["place"])
    between = programs.scratch(SIZE, segments)
    made = {key: make() for key, make in between}
    before = []
    targets = [*(made[key] for key, _ in between), memory["high"]]
    for part, after in zip(programs.higher(segments), targets, strict=True):
        part(memory["kept"], *before, after)
        before = [after]
    programs.classify(memory["high"], memory["labels"], memory["scores"])
    labels["key"] = programs.labels(memory["labels"])
    kept, high, low = memory["kept"], memory["high"], lows[1]
    programs.propagate(memory["base"], high, low, memory["propagated"], memory["labels"], memory["scores"])
    labels["current"] = programs.labels(memory["labels"])
    programs.select(Signal.DEVIATION)(kept, low, memory["value"])
    found = {"low": low.features, "high": high, "propagated": memory["propagated"], "deviation": memory["value"]}
    return found, labels


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_difference_of_large_features_is_a_number_in_half_precision(tiny_network, frames, dtype):
    def difference(dtype):
        stages = NetworkStages(tiny_network, Options(dtype=dtype, fold=False))
        with torch.inference_mode():
            # Sums beyond float16's largest number.
            stages.network.backbone.layers[1][0].bn.weight *= 1000
        before, after = (stages.lower(frame) for frame in frames)
        return stages.measure(KeyFrame(0, 0, before, None), after, Signal.DIFFERENCE)

    assert difference(dtype) == pytest.approx(difference("float32"), rel=0.05)


def test_a_decision_that_is_no_number_counts_as_exceeding_on_a_stream_too():
    value = NetworkPrograms.number(None, torch.tensor([float("nan")]))
    assert Adaptive(0.2).is_key(1, value)


def assert_close(found, expected, dtype, name):
    error = (found.float() - expected.float()).abs().max().item()
    limit = TOLERANCES[dtype] * expected.float().abs().max().item()
    assert error <= limit, f"{name}: off by {error}, limit {limit}"


def assert_labels(labels, scores, dtype, name):
    """Labels may differ where the two best scores are about equal."""
    best = full_size_labels(scores.float(), SIZE)[0].numpy()
    agree = {"float32": 0.999, "float16": 0.98, "bfloat16": 0.9}[dtype]
    assert np.mean(labels == best) >= agree, f"{name}: {np.mean(labels == best):.3f} of the labels agree"


@pytest.mark.parametrize("change", CHANGES)
def test_programs_compute_what_the_network_defines(tiny_network, frames, change):
    chosen = options(change)
    expected = defined(tiny_network, frames)
    found, labels = computed(NetworkPrograms(tiny_network, chosen), frames)
    for name, value in found.items():
        assert_close(value, expected[name], chosen.dtype, name)
    assert_labels(labels["key"], expected["key scores"], chosen.dtype, "key frame")
    assert_labels(labels["current"], expected["scores"], chosen.dtype, "current frame")


@pytest.mark.parametrize("change", ["folded", "all of them", "bfloat16", "float16"])
def test_programs_match_and_correct_as_the_network_defines(tiny_matching_network, frames, change):
    chosen = options(change)
    expected = defined(tiny_matching_network, frames)
    found, labels = computed(NetworkPrograms(tiny_matching_network, chosen), frames)
    for name, value in found.items():
        assert_close(value, expected[name], chosen.dtype, name)
    assert_labels(labels["current"], expected["scores"], chosen.dtype, "current frame")


def test_a_rebased_frame_is_propagated_from_and_not_decided_by(tiny_network, frames):
    chosen = Options(graphs=False)
    stages = NetworkStages(tiny_network, options=chosen)
    first, second, third = map(stages.lower, [*frames, frames[1][::-1].copy()])
    key = KeyFrame(0, 0, first, stages.higher(first))
    _, carried = stages.propagate(key, second)
    rebased, temporary = KeyFrame(0, 0, first, carried, second), KeyFrame(1, 0, second, carried)
    (labels, high), (expected, expected_high) = (stages.propagate(state, third) for state in (rebased, temporary))
    assert np.array_equal(labels, expected) and torch.equal(high.features, expected_high.features)
    assert not torch.equal(high.features, stages.propagate(KeyFrame(0, 0, first, carried), third)[1].features)
    for signal in Signal:
        assert stages.measure(rebased, third, signal) == stages.measure(key, third, signal)

    programs = NetworkPrograms(tiny_network, chosen)
    makers = programs.makers(SIZE)
    lows = [makers["low"](), makers["low"]()]
    for frame, low in zip(frames, lows, strict=True):
        programs.lower(torch.from_numpy(frame), low)
    kept, *bases, place = (makers[kind]() for kind in ("kept", "base", "base", "base", "place"))
    for low, base in zip(lows, bases, strict=False):
        programs.hold(low, kept, base, place)
    programs.rebase(lows[1], bases[2], place)
    assert torch.equal(bases[2], bases[1]) and not torch.equal(bases[2], bases[0])
    assert torch.equal(place[0], lows[1].predict) and torch.equal(place[1], lows[1].adapt)


def test_features_are_carried_along_a_path_that_grows_meanwhile(tiny_network, frames):
    """The same on a CPU, in parts behind those of S_h, and on the memory of a GPU."""
    stages = NetworkStages(tiny_network, options=Options(graphs=False))
    lows = [stages.lower(frame) for frame in (*frames, frames[1][::-1].copy())]
    key = KeyFrame(0, 0, lows[0], None)
    stages.hold(key)
    whole = stages.higher(lows[0])
    expected = whole
    for base, low in zip(lows, lows[1:], strict=False):
        expected = stages.propagate(KeyFrame(0, 0, lows[0], expected, base), low)[1]
    parts, count, found = stages.higher_parts(lows[0]), 0, None
    while found is None:
        try:
            next(parts)
            count += 1
            if count in (2, len(stages.network.higher_chain()) + 1):
                key.path.append(lows[len(key.path) + 1])
        except StopIteration as last:
            found = last.value
    assert (found.steps, count) == (2, len(stages.network.higher_chain()) + 2)
    torch.testing.assert_close(found.features, expected.features)

    programs = NetworkPrograms(tiny_network, Options(graphs=False))
    makers, high = programs.makers(SIZE), whole.features.clone()
    places = [makers["place"]() for _ in lows]
    for low, place in zip(lows, places, strict=True):
        programs.rebase(low.reduced, makers["base"](), place)
    for before, after in zip(places, places[1:], strict=False):
        programs.carry(before, after, high)
    torch.testing.assert_close(high, expected.features, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("change", CHANGES)
def test_stages_compute_what_the_network_defines(tiny_network, frames, change):
    chosen = options(change)
    expected = defined(tiny_network, frames)
    stages = NetworkStages(tiny_network, options=chosen)
    first, second = map(stages.lower, frames)
    key = KeyFrame(0, 0, first, stages.higher(first))
    labels, propagated = stages.propagate(key, second)
    assert_close(key.high.features, expected["high"], chosen.dtype, "high")
    assert_close(propagated.features, expected["propagated"], chosen.dtype, "propagated")
    assert_labels(labels, expected["scores"], chosen.dtype, "current frame")
    deviation = torch.tensor(stages.measure(key, second, Signal.DEVIATION))
    assert_close(deviation, expected["deviation"], chosen.dtype, "deviation")


def test_stages_carry_a_correction_on(tiny_matching_network, frames):
    expected = defined(tiny_matching_network, frames)
    stages = NetworkStages(tiny_matching_network, options=PLAIN)
    first, second = map(stages.lower, frames)
    labels, carried = stages.propagate(KeyFrame(0, 0, first, stages.higher(first)), second)
    assert_close(carried.features, expected["propagated"], "float32", "carried")
    assert_labels(labels, expected["scores"], "float32", "current frame")


@pytest.mark.parametrize("segments", [2, 3, 25])
def test_s_h_in_parts_is_s_h(tiny_network, frames, segments):
    whole, _ = computed(NetworkPrograms(tiny_network), frames)
    parts, _ = computed(NetworkPrograms(tiny_network), frames, segments)
    assert torch.equal(parts["high"], whole["high"])


@pytest.mark.parametrize("segments", [1, 3, 36])
def test_programs_run_lites_dilated_blocks_as_the_network_does(frames, segments):
    from lowlat import models

    network = models.load("lite")
    expected = defined(network, frames)
    found, _ = computed(NetworkPrograms(network, pixels=None), frames, segments)
    assert_close(found["high"], expected["high"], "float32", "high")


def test_s_h_of_the_papers_network_has_as_many_parts_as_asked():
    from lowlat import models

    with torch.device("meta"):
        network = models.build("resnet101")
    assert len(network.higher_chain()) == 25


def test_compiled_stages_compute_the_same(tiny_network, frames):
    plain, _ = computed(NetworkPrograms(tiny_network, PLAIN), frames)
    compiled, _ = computed(NetworkPrograms(tiny_network, Options(compiled=True)), frames)
    for name, value in plain.items():
        assert_close(compiled[name], value, "float32", name)


def test_propagation_writes_into_the_memory_it_was_given(tiny_network, frames, nan_filled_memory):
    found, _ = computed(NetworkPrograms(tiny_network), frames)
    assert not any(value.isnan().any() for value in found.values())


def test_options_change_a_copy(tiny_network):
    before = {name: value.clone() for name, value in tiny_network.state_dict().items()}
    network = prepared(tiny_network, Options(dtype="bfloat16"))
    assert network.mean.dtype is torch.bfloat16
    assert not any(isinstance(module, BatchNorm2d) for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in tiny_network.state_dict().items())


def test_an_unknown_dtype_is_refused():
    with pytest.raises(ValueError, match="one of float32, bfloat16, float16, got 'int8'"):
        Options(dtype="int8")


@pytest.mark.parametrize("graphs", [False, True], ids=["eager", "graphs"])
def test_an_engine_on_streams_gives_the_labels_of_the_engine_on_the_cpu(tiny_network, graphs):
    """The real network on the fake device: same frames, same schedule, S_h always three frames late; whatever order the
    device takes."""
    random = np.random.default_rng(0)
    frames = [random.integers(0, 256, (*SIZE, 3), np.uint8) for _ in range(14)]
    schedule = Schedule(Adaptive(0.0), decision="critical", age_bound=None)
    stages = NetworkStages(tiny_network)
    with Engine(schedule, stages, ReplayWorker(stages, 3)) as engine:
        expected = [engine.step(frame) for frame in frames]
    device = FakeDevice(5)
    streams = GpuStages(device, NetworkPrograms(tiny_network), schedule, graphs=graphs, turns=Turns())
    worker = GpuWorker(streams, device)

    def poll(index, poll=worker.poll):
        if worker._job is None or index < worker._job[0].index + 3:
            return None
        device.finish()
        return poll(index)

    worker.poll = poll
    with Engine(schedule, streams, worker, device) as engine:
        found = [engine.step(frame) for frame in frames]
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.key, ours.age, ours.landed) == (theirs.key, theirs.age, theirs.landed)
        assert np.mean(ours.labels == theirs.labels) > 0.999
        assert ours.value == theirs.value or ours.value == pytest.approx(theirs.value, rel=1e-3)
