"""Several videos on one fake GPU whose streams get on in random orders: whose features are whose, and who waits."""

import pytest
from hub_stage import Stage

from lowlat.schedule import Every


@pytest.mark.parametrize("graphs", [False, True], ids=["", "graphs"])
@pytest.mark.parametrize("seed", range(6))
def test_labels_come_from_the_video_s_own_features_in_any_order_of_streams(monkeypatch, seed, graphs):
    stage = Stage(monkeypatch, seed, 3, graphs)
    for index in range(25):
        for number in range(3):
            stage.put(number, index)
        for number in range(3):
            stage.until_labelled(number, index + 1)
        # Everything that streams need is there once the first labels are out.
        stage.device.sealed = True
        stage.turns(stage.device.random.choice((0, 3, 30, 200)))
    stage.check()
    for seat, results in zip(stage.seats, stage.results.values(), strict=True):
        assert len(results) == 25 and seat.failed == 0 and seat.engine.state.counts.landings > 2
    stage.loop.close()


@pytest.mark.parametrize("seed", range(4))
def test_restarts_and_videos_that_go_leave_the_others_alone(monkeypatch, seed):
    stage = Stage(monkeypatch, seed, 3)
    for index in range(24):
        for number, seat in enumerate(stage.seats):
            if not seat.gone:
                stage.put(number, index)
        stage.turns(stage.device.random.choice((1, 5, 40, 400)))
        if index % 5 == 2:
            stage.seats[1].restart()
        if index == 12:
            stage.loop.leave(stage.seats[2])
    while stage.turn():
        pass
    stage.check()
    for seat in stage.seats:
        buffer = seat.buffer
        assert buffer.captured == seat.labelled + seat.failed + buffer.dropped and not buffer.waiting
    assert stage.seats[0].failed == 0 and stage.seats[0].engine.state.counts.landings > 0
    assert len(stage.results[1]) > 2 and stage.passes.waiting() == 0
    stage.loop.close()


@pytest.mark.parametrize("seed", range(4))
def test_a_pass_that_is_refused_memory_fails_alone(monkeypatch, seed):
    stage = Stage(monkeypatch, seed, 2, policy=Every(2))
    slow = stage.machine.stream.name
    failures = 0
    for index in range(40):
        for number in range(2):
            stage.put(number, index)
            stage.until_labelled(number, index + 1)
        if index % 7 == 3:
            stage.device.refusals[slow] = MemoryError("no room for F_h")
        stage.turns(20)
        stage.device.refusals.clear()
    failures = [seat.engine.state.counts.failures for seat in stage.seats]
    stage.check()
    assert sum(failures) >= 3 and all(seat.labelled == 40 for seat in stage.seats)
    assert all(seat.engine.state.counts.landings > 3 for seat in stage.seats)
    stage.loop.close()


def test_the_host_waits_for_labels_alone(monkeypatch):
    """Once videos run, nothing but a frame's own labels is waited for: S_h is asked, never waited for."""
    stage = Stage(monkeypatch, 1, 2)
    for index in range(20):
        if index == 1:
            stage.device.waits.clear()
        for number in range(2):
            stage.put(number, index)
            stage.until_labelled(number, index + 1)
        stage.turns(50)
    assert {wait.split(" of ")[0].rstrip("0123456789") for wait in stage.device.waits} == {"fetched"}
    assert len(stage.device.waits) == 2 * 19
    stage.loop.close()
