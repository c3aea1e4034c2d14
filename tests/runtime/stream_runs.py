"""Runs of the stream runtime over the fake device, with every kind of trouble, each result checked."""

from fake_device import FakeDevice, FakePrograms, RuleError

from lowlat.runtime import Captured, Engine, FrameBuffer
from lowlat.runtime.gpu.isolation import InTurns, Turns
from lowlat.runtime.gpu.stages import GpuStages
from lowlat.runtime.gpu.worker import GpuWorker
from lowlat.schedule import Adaptive, Schedule

KEY = 0.3
CUT = 0.9
STREAMS = ("upload", "S_l", "propagation", "fetch", "S_h")


class Interrupted(Exception):
    """Raised to give a frame up before its labels are waited for."""


def deferred(policy=None):
    return Schedule(policy or Adaptive(0.1), decision="deferred")


def build(schedule, device=None, *, values=None, graphs=False, segments=None, programs=None):
    """Make an engine over the fakes, which are its `.device`, `.stages` and `.turns`."""
    device = device or FakeDevice()
    turns = InTurns(device, segments, threaded=False) if segments else Turns()
    stages = GpuStages(device, programs or FakePrograms(values), schedule, graphs=graphs, turns=turns)
    engine = Engine(schedule, stages, GpuWorker(stages, device), clock=device)
    engine.device, engine.stages, engine.turns = device, stages, turns
    if segments:
        device.beside = turns.advance
    return engine


class Irregular(FrameBuffer):
    """Frames 0, 1, 2, ..., each of which is there early or not, at random."""

    def __init__(self, device, frames):
        super().__init__("wait", capacity=frames, clock=device)
        self.device = device
        for frame in range(frames):
            self.put(frame)
        self.end()

    def get(self):
        return super().take_waiting()

    def take_waiting(self):
        return super().take_waiting() if self.device.random.random() < 0.7 else None


def run(engine, frames, *, lookahead=False, abandoned=(), restarts=(), failing=(), scores=""):
    """Label `frames` frames, check where each result's labels came from, and return the results.

    At the frames of `abandoned` the labels are not waited for; at those of `restarts` the engine is told to start up
    again; from those of `failing` on, the next work on S_h's stream is refused memory. `engine.lost` are the frames at
    which that happened to a start. `scores` is the size at which scores are asked for, if they are.
    """
    device, results = engine.device, []
    waiting = engine.stages.wait
    doomed = {*abandoned}

    def wait(labels):
        index = engine._result.index
        if index in doomed:
            doomed.discard(index)
            raise Interrupted
        return waiting(labels)

    engine.stages.wait, engine.lost = wait, set()
    source = Irregular(device, frames) if lookahead else (Captured(frame, 0.0, frame) for frame in range(frames))
    answers = engine.run(source, scores)
    while True:
        waits = len(device.waits)
        try:
            result = next(answers)
        except StopIteration:
            break
        except Interrupted:
            answers = engine.run(source, scores)
            continue
        except RuntimeError as error:
            # S_h failed where there was nothing else to show.
            if not isinstance(error.__cause__, MemoryError):
                raise
            engine.lost.add(engine.state.index)
            answers = engine.run(source, scores)
            continue
        index = result.index
        assert result.labels is not None
        if isinstance(result.error, RuleError):
            raise result.error
        if result.labels[0] == "classified":
            assert result.labels == ("classified", index) and result.key and result.age == 0
        else:
            assert result.labels == ("propagated", index, engine.state.base, index - result.age)
        assert result.scores == ((scores, (8, 8), result.labels) if scores else None)
        result.waits = device.waits[waits:]
        results.append(result)
        # Everything that a stream needs is there once its first labels are out.
        device.sealed = True
        if index in failing:
            device.refusals["S_h"] = MemoryError("S_h: no room for F_h")
        if index in restarts:
            engine.restart()
    engine.close()
    return results
