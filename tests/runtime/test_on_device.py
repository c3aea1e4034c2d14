"""The live engine with a real network on each device at hand: the fake one everywhere, an NVIDIA GPU where there is
one. Against the engine of the CPU, and against itself with everything switched off."""

import json
import runpy
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from places import GPUS, at
from typer.testing import CliRunner

import lowlat.jobs.latency as latency
import lowlat.jobs.latency.runs as latency_runs
from lowlat.cli import app
from lowlat.lab.replay import ReplayWorker
from lowlat.runtime import Engine, FrameBuffer
from lowlat.runtime.gpu.engine import gpu_engine
from lowlat.runtime.gpu.programs import NetworkPrograms
from lowlat.runtime.options import DEFAULT, Options
from lowlat.runtime.stages import NetworkStages
from lowlat.schedule import Adaptive, Every, PerFrame, Schedule

PLAIN = Options(channels_last=False, fold=False, graphs=False)
SIZE = (48, 64)
FRAMES = 24

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=GPUS)
def place(request):
    with at(request.param):
        yield request.param


@pytest.fixture
def tiny_network(tiny_network, frames):
    """Its labels are of several classes, so that wrong ones are noticed."""
    images = torch.stack([torch.from_numpy(frame).permute(2, 0, 1) for frame in frames])
    with torch.inference_mode():
        scores = tiny_network(tiny_network.normalise(images))
        tiny_network.classifier.bias -= scores.mean((0, 2, 3))
        labels = tiny_network(tiny_network.normalise(images)).argmax(1)
    assert all(len(frame.unique()) > 3 for frame in labels)
    return tiny_network


@pytest.fixture(scope="module")
def frames():
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (*SIZE, 3), np.uint8) for _ in range(FRAMES)]


def late(engine, delay):
    """Makes S_h land exactly `delay` frames after its launch, as a replay does."""
    worker, device = engine._worker, engine.clock
    poll = worker.poll

    def wait_and_poll(index):
        if worker._job is None or index < worker._job[0].index + delay:
            return None
        device.synchronize()
        # A thread that launches S_h in parts may be behind.
        waited = threading.Event()
        while (outcome := poll(index)) is None and getattr(engine._stages.turns, "_thread", None) is not None:
            waited.wait(0.001)
        return outcome

    worker.poll = wait_and_poll
    return engine


def live(network, schedule, options=DEFAULT, **isolation):
    return gpu_engine(schedule, NetworkPrograms(network, options, device="cuda"), **isolation)


def agreement(found, expected):
    return np.mean([np.mean(ours.labels == theirs.labels) for ours, theirs in zip(found, expected, strict=True)])


SCHEDULES = {
    "low-latency, deferred": Schedule(Every(4), decision="deferred"),
    "low-latency, critical": Schedule(Adaptive(0.0), decision="critical", age_bound=None),
    "low-latency, cuts waited for": Schedule(Adaptive(0.0, cut=0.0), decision="critical", on_cut="block"),
    "blocking": Schedule(Every(4), "blocking"),
    "per frame": Schedule(PerFrame(), "blocking"),
}


@pytest.mark.parametrize("schedule", ["low-latency, deferred", "low-latency, cuts waited for", "blocking"])
def test_s_h_in_parts_gives_the_features_of_one_pass(tiny_network, frames, place, schedule):
    found = []
    for isolation, graphs in (("priority", False), ("segment", True)):
        options = Options(graphs=graphs)
        with late(live(tiny_network, SCHEDULES[schedule], options, isolation=isolation), 6) as engine:
            highs = []
            for frame in frames:
                engine.step(frame)
                while engine._stages.turns.segments > 1 and place == "fake" and engine._stages.turns.advance():
                    engine.clock.synchronize()
                engine.clock.synchronize()
                highs.append(engine._stages._active.high.value.clone())
            found.append(highs)
            assert engine.state.counts.landings > 1
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("graphs", "delay"), [(False, 3), (True, 3), (True, 8)], ids=["eager", "graphs", "late"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_labels_are_those_of_the_cpus_engine(tiny_network, frames, place, schedule, graphs, delay):
    schedule = SCHEDULES[schedule]
    stages = NetworkStages(tiny_network)
    with Engine(schedule, stages, ReplayWorker(stages, delay)) as engine:
        expected = [engine.step(frame) for frame in frames]
    with late(live(tiny_network, schedule, Options(graphs=graphs)), delay) as engine:
        found = [engine.step(frame) for frame in frames]
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.key, ours.age, ours.landed) == (theirs.key, theirs.age, theirs.landed)
    assert agreement(found, expected) > 0.995


CHANGES = {
    "channels-last": ({"channels_last": True}, 0.995),
    "folded": ({"fold": True}, 0.995),
    "graphs": ({"graphs": True}, 0.995),
    "bfloat16 with all": ({"dtype": "bfloat16", "channels_last": True, "fold": True, "graphs": True}, 0.9),
    "float16 with all": ({"dtype": "float16", "channels_last": True, "fold": True, "graphs": True}, 0.97),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_option_gives_the_plain_engines_labels(tiny_network, frames, place, change):
    values, least = CHANGES[change]
    schedule = SCHEDULES["low-latency, deferred"]

    def run(options):
        with late(live(tiny_network, schedule, options), 3) as engine:
            return [engine.step(frame) for frame in frames]

    plain = {name: getattr(PLAIN, name) for name in PLAIN.__dataclass_fields__}
    assert agreement(run(Options(**{**plain, **values})), run(PLAIN)) >= least


@pytest.mark.parametrize("isolation", ["priority", "segment", "partition"])
def test_every_isolation_answers_every_frame_and_lands(tiny_network, frames, place, isolation):
    engine = live(tiny_network, SCHEDULES["low-latency, deferred"], isolation=isolation, sms=16)
    assert engine.isolation == isolation
    landed = []
    with engine:
        for index in range(40 * FRAMES):
            result = engine.step(frames[index % FRAMES])
            assert result.error is None and result.labels.shape == SIZE
            landed.append(result.landed)
            if sum(source is not None for source in landed) == 3:
                break
        assert sum(source is not None for source in landed) == 3


def test_frames_begun_early_have_the_same_labels(tiny_network, frames, place):
    schedule = SCHEDULES["low-latency, deferred"]
    with late(live(tiny_network, schedule), 3) as engine:
        expected = [engine.step(frame) for frame in frames]
    with late(live(tiny_network, schedule), 3) as engine:
        with FrameBuffer("wait", capacity=FRAMES, clock=engine.clock) as buffer:
            for frame in frames:
                buffer.put(frame)
            buffer.end()
            found = list(engine.run(buffer))
    assert agreement(found, expected) == 1


def test_two_streams_share_the_weights_and_keep_apart(tiny_network, frames, place):
    programs = NetworkPrograms(tiny_network, device="cuda")
    schedule = SCHEDULES["low-latency, deferred"]
    with late(gpu_engine(schedule, programs), 3) as engine:
        expected = [engine.step(frame) for frame in frames]
    one, two = (late(gpu_engine(schedule, programs), 3) for _ in range(2))
    with one, two:
        found = []
        for frame in frames:
            found.append(one.step(frame))
            two.step(np.ascontiguousarray(frame[::-1]))
    assert agreement(found, expected) == 1


def test_no_device_memory_is_taken_after_warm_up(tiny_network, frames, place):
    with live(tiny_network, SCHEDULES["low-latency, deferred"]) as engine:
        engine.step(frames[0])
        taken = int
        if place == "fake":
            engine.clock.sealed = True
        elif place == "cuda":
            # Any wait that the runtime has not asked for is an error from here on.
            torch.cuda.set_sync_debug_mode("error")
            taken = lambda: torch.cuda.memory_stats()["allocation.all.allocated"]  # noqa: E731
        try:
            before = taken()
            for frame in frames:
                engine.step(frame)
            assert taken() == before
        finally:
            if place == "cuda":
                torch.cuda.set_sync_debug_mode("default")


def test_stages_are_timed_on_the_device(tiny_network, frames, place):
    with live(tiny_network, SCHEDULES["low-latency, deferred"]) as engine:
        spans = [span for frame in frames for span in engine.step(frame).spans]
    assert {(span.track, span.stage) for span in spans} >= {("S_l", "lower"), ("propagation", "propagate")}
    assert all(0 <= span.end_ms - span.start_ms < 10_000 for span in spans)


@pytest.mark.sample(4)
@pytest.mark.parametrize("isolation", ["priority", "partition", "segment"])
def test_the_minute_of_make_gpu_measures_every_isolation(tiny_network, place, isolation, tmp_path, monkeypatch):
    """Its own command line, with a small network, few frames and, without a GPU, a fake one under it."""
    monkeypatch.setattr(latency, "_network", lambda name: tiny_network)
    for module in (latency, latency_runs):
        monkeypatch.setattr(module, "WARM_UP", 2)
    make_gpu = runpy.run_path(str(Path(__file__).parents[1] / "gpu" / "run.py"))
    stage = make_gpu["stages_on"](make_gpu["Gpu"]("NVIDIA H200", "90", 143771), tmp_path)["latency"]
    (command,) = stage.commands
    words = command[len(make_gpu["LATENCY"]) - 1 :]
    assert int(words[words.index("--frames") + 1]) / int(words[words.index("--fps") + 1]) == 60
    few = ("--size", "32x24", "--frames", "12", "--fps", "500", "--baseline-frames", "3", "--table-frames", "3")
    done = CliRunner().invoke(app, [*words, *few, "--isolation", isolation, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["frames"] + told["dropped"] == 12 and told["network"] == "resnet101" and told["dtype"] == "bfloat16"
    assert told["isolation"] == isolation or "takes its place" in told["notice"]
    assert told["stages_ms"]["S_l: lower"] > 0 and all(row["ours"] for row in told["table3_ms"].values())
    assert json.loads((tmp_path / "latency" / "trace.json").read_text())["traceEvents"]
