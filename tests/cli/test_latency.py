"""`lowlat latency`: the figures from results made up here, the measurement on a network that costs nothing, and the
command with the shipped one."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from report_pages import Page

import lowlat.jobs.latency as job
import lowlat.jobs.latency.runs as runs
from lowlat.jobs.latency.figures import summarise
from lowlat.jobs.latency.paper import PUBLISHED_SCHEDULES, PUBLISHED_STAGES
from lowlat.jobs.report.kinds import KINDS
from lowlat.jobs.simulate import simulate
from lowlat.networks.video_network import VideoNetwork
from lowlat.runtime import FrameResult, Span
from lowlat.video.files import SinkError
from lowlat.video.synthetic import synthetic_frames

pytestmark = pytest.mark.usefixtures("one_thread")
KEYS = "baseline_p50_ms p50_ms p95_ms p99_ms max_ms max_over_baseline p99_over_p50 deadline_misses landings".split()


def result(index, latency, **more):
    start = 100.0 * index
    spans = [Span("S_l", "lower", index, start, start + latency - 1)]
    more = {"age": 1, "settled": True, **more}
    made = FrameResult(index, None, available_ms=start, emitted_ms=start + latency, spans=spans, **more)
    return made


def made(results, *spans):
    return summarise(results, [*spans, *(span for result in results for span in result.spans)])


def test_percentiles_ratios_and_misses():
    results = [result(index, 10.0, age=index % 5) for index in range(99)] + [result(99, 40.0, age=7)]
    told = summarise(results, [], deadline_ms=20)
    assert (told.frames, told.p50_ms, told.max_ms, told.deadline_misses) == (100, 10, 40, 1)
    assert told.jitter_ms == pytest.approx(30 / 99, abs=1e-4)
    assert told.p99_over_p50 == round(told.p99_ms / 10, 4)
    assert (told.age_max, told.age_mean) == (7, pytest.approx(2, abs=0.1))


def test_the_deadline_is_1_2_times_p99_unless_given():
    told = summarise([result(index, 10.0) for index in range(50)], [])
    assert (told.deadline_ms, told.deadline_misses) == (12, 0)


def test_landings_and_their_delay_in_frames():
    told = made([result(5, 10.0, landed=2), result(6, 10.0), result(9, 10.0, landed=5)])
    assert (told.landings, told.landing_delay_frames, told.landing_delay_max) == (2, 3.5, 4)


def test_frames_beside_s_h_are_compared_with_those_without():
    results = [result(0, 10.0), result(1, 21.0), result(2, 10.0), result(3, 10.0)]
    told = made(results, Span("S_h", "higher", 0, 95.0, 150.0))
    assert (told.fast_track_ms, told.fast_track_beside_s_h_ms) == (9, 20)
    assert told.slowdown == round(20 / 9, 4)
    assert (told.host_gap_p50_ms, told.host_gap_max_ms) == (1, 1)
    assert told.stages_ms == {"S_h: higher": 55, "S_l: lower": 9}


def test_the_decision_after_the_labels_is_no_part_of_the_fast_track():
    late = result(0, 10.0)
    late.spans.append(Span("propagation", "select", 0, 10.0, 14.0))
    assert made([late]).host_gap_p50_ms == 1


def test_s_l_of_a_frame_begun_early_is_waiting_before_its_turn_and_computing_in_it():
    early = FrameResult(12, None, age=0, available_ms=100.0, emitted_ms=130.0, wait_ms=20.0)
    labels = Span("propagation", "propagate", 12, 122.0, 129.0)
    told = summarise([early], [Span("S_l", "lower", 12, 105.0, 117.0), labels])
    assert (told.host_gap_p50_ms, told.fast_track_ms) == (3, 19)
    told = summarise([early], [Span("S_l", "lower", 12, 110.0, 122.0), labels])
    assert (told.host_gap_p50_ms, told.fast_track_ms) == (1, 19)


def test_memory_grows_if_its_most_does():
    def growth(*memory):
        return runs.Recorded([], 0.0, [], memory_mb=list(memory)).growth_mb

    assert growth(50, 90, 50, 90, 50, 90) == 0, "it comes and goes"
    assert growth(*range(100)) == 50, "a leak"
    assert growth(90, 50, 50, 50) == -40 and growth(90) == growth() == 0


def test_the_machine_is_as_steady_as_its_control():
    def steadiness(*times):
        return runs.Recorded([], 0.0, [], control_ms=list(times)).control_p99_over_p50

    assert steadiness(*[10.0] * 50) == 1 and steadiness(*[10.0] * 50, *[25.0] * 20) == 2.5
    assert steadiness() is None


def test_no_result_is_refused():
    with pytest.raises(ValueError, match="expected at least 1 result after start-up"):
        summarise([], [])


def test_published_schedules_follow_from_published_stages():
    costs = dict(zip(("lower", "higher", "select", "propagate"), PUBLISHED_STAGES.values(), strict=True))
    rows = [("per-frame", None), ("every", "blocking"), ("adaptive", "blocking"), ("adaptive", "low-latency")]
    for (policy, mode), (average, longest) in zip(rows, PUBLISHED_SCHEDULES.values(), strict=True):
        report = simulate(**costs, policy=policy, mode=mode, decision="critical", frames=1000)
        assert (report.average_ms, report.max_ms) == (average, longest)


def test_synthetic_frames_are_smooth_move_and_cost_nothing_to_hand_out():
    frames = synthetic_frames(40, 24)
    shown = [next(frames) for _ in range(70)]
    assert all(frame.shape == (24, 40, 3) and frame.dtype == np.uint8 for frame in shown)
    assert len({id(frame) for frame in shown}) == 16
    assert np.array_equal(shown[0][:, 3:], shown[1][:, :-3]), "one step is a shift"
    with pytest.raises(ValueError, match="at least 8 pixels, got 4x24"):
        next(synthetic_frames(4, 24))


@pytest.fixture
def small(monkeypatch, tiny_network):
    """A network of a few channels in the place of the named ones; source and output as given."""
    monkeypatch.setattr(job, "_network", lambda name: tiny_network)

    def run(**options):
        defaults = {"size": (32, 24), "fps": 200, "frames": 30, "baseline_frames": 5, "table_frames": 6}
        return job.measure(**{**defaults, **options})

    return run


@pytest.mark.serial
def test_a_run_reports_every_figure_and_leaves_its_pictures(small, tmp_path):
    report = small(out=tmp_path)
    assert isinstance(job._network("lite"), VideoNetwork)
    told = report.as_dict()
    assert {*KEYS} <= set(told) and json.loads(json.dumps(told)) == told
    assert told["frames"] + told["dropped"] == 30 and not told["interrupted"]
    assert told["max_ms"] >= told["p99_ms"] >= told["p95_ms"] >= told["p50_ms"] > 0
    assert told["landings"] > 0 and told["failures"] == 0
    assert all(row["ours"] > 0 for row in told["table3_ms"].values())
    assert all(row["ours_max"] >= row["ours_average"] > 0 for row in told["table1_ms"].values())
    for name in ("histogram.png", "timeline.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    trace = json.loads((tmp_path / "trace.json").read_text())
    assert {event["name"] for event in trace["traceEvents"]} >= {"lower", "propagate", "select", "higher"}
    written = json.loads((tmp_path / "report.json").read_text())
    assert {name: value for name, value in written.items() if name in told} == told
    assert len(written["per_frame"]) == told["frames"] and written["settings"]["fps"] == 200
    page = Page(tmp_path / "report.html")
    for figure in KINDS["latency"].all:
        assert page.cells[figure.name] == figure.words(figure.of(told))
    assert [line["ms"] for line in page.data["lines"]] == [told["baseline_p50_ms"], told["deadline_ms"]]


def test_a_folder_that_cannot_be_written_to_is_told_before_anything_is_measured(small, tmp_path, monkeypatch):
    def refuse(self, *_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)
    monkeypatch.setattr(job, "record_run", lambda *_, **__: pytest.fail("measured"))
    with pytest.raises(SinkError, match="latency: expected a folder to write to, .*: Permission denied; .* --out"):
        small(out=tmp_path)


@pytest.mark.serial
def test_a_report_that_cannot_be_written_to_its_end_leaves_the_one_from_before(small, tmp_path, monkeypatch):
    write = Path.write_text

    def half(self, text):
        write(self, text[: len(text) // 2])
        if "report" in self.name:
            raise OSError(28, "No space left on device")

    (tmp_path / "report.json").write_text("from before")
    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="No space left"):
        small(out=tmp_path, table_frames=0)
    assert (tmp_path / "report.json").read_text() == "from before"


@pytest.mark.serial
def test_the_control_runs_where_the_rate_leaves_it_room(small):
    assert small(fps=200, frames=5, table_frames=0).control_p99_over_p50 is None
    assert small(fps=3, frames=8, table_frames=0).control_p99_over_p50 >= 1


@pytest.mark.serial
def test_without_tables_their_schedules_are_not_run(small):
    tables = small(table_frames=0).as_dict()["table1_ms"]
    assert tables["adaptive"]["ours_average"] is None and tables["per frame"]["ours_average"] > 0


@pytest.mark.serial
def test_a_source_that_ends_early_is_measured_as_far_as_it_goes(small, clip):
    report = small(source=clip, frames=100, baseline_frames=100)
    assert report.run.frames + report.dropped == report.baseline_frames == 20 - 11


def test_a_source_that_is_all_start_up_is_refused(small, clip, monkeypatch):
    monkeypatch.setattr(job, "WARM_UP", 50)
    monkeypatch.setattr(runs, "WARM_UP", 50)
    with pytest.raises(ValueError, match="expected a source of more than 51 frames"):
        small(source=clip)


def test_ctrl_c_reports_what_there_is(small, monkeypatch):
    def interrupted(frames, fps):
        for count, frame in enumerate(frames):
            if count == 25:
                raise KeyboardInterrupt
            yield frame

    def lossless(*arguments, overload=None, **options):
        label_frames(*arguments, overload=overload and "wait", **options)

    label_frames = runs.label_frames
    monkeypatch.setattr(runs, "label_frames", lossless)
    monkeypatch.setattr(runs, "at_rate", interrupted)
    report = small()
    assert report.interrupted and report.run.frames == 25


@pytest.mark.serial
def test_ctrl_c_before_the_locked_rate_ends_it_all(small, monkeypatch):
    calls = []

    def interrupted(*arguments, **options):
        calls.append(options)
        label_frames(*arguments, **options)
        if len(calls) == 2:
            raise KeyboardInterrupt

    label_frames = runs.label_frames
    monkeypatch.setattr(runs, "label_frames", interrupted)
    with pytest.raises(KeyboardInterrupt):
        small()
    assert len(calls) == 2, "the baseline's start-up and the baseline"


@pytest.mark.parametrize(
    ("options", "mend"),
    [
        (("--network", "vgg.safetensors"), "a file of weights, found none at vgg.safetensors"),
        (("--network", "vgg"), "one of lite, resnet101, a file of weights or package.module:function, got 'vgg'"),
        (("--frames", 0), "--frames of at least 1, got 0"),
        (("--interval", 11), "at most 10 frames"),
        (("--deadline", 0), "--deadline above 0"),
        (("--isolation", "luck"), "'segment' or 'priority' on a CPU"),
        (("--segments", 4), "--segments with --isolation segment on a GPU"),
        (("--sms", 8), "--sms with --isolation partition on a GPU"),
        (("--dtype", "int8"), "one of float32, bfloat16, float16, got 'int8'"),
        (("--pixels", 0), "pixels of at least 1, got 0"),
        (("--size", "big"), "--size as in 640x360, got 'big'"),
        (("--table-frames", -1), "0 (no tables) or more"),
        (("--fps", 0), "--fps above 0, got 0.0"),
    ],
)
def test_bad_options_are_refused_with_the_mend(refused, options, mend, tmp_path):
    tiny = ("--size", "16x16", "--frames", 1, "--baseline-frames", 1, "--table-frames", 0, "--out", tmp_path)
    assert mend in refused("latency", *tiny, *options)


@pytest.mark.serial
def test_the_command_measures_the_shipped_network(lowlat, tmp_path):
    words = ("--size", "96x64", "--frames", 20, "--fps", 30, "--baseline-frames", 4, "--table-frames", 4)
    words = (*words, "--pixels", 48 * 32)
    code, printed, err = lowlat("latency", *words, "--json", "--out", tmp_path / "out")
    assert code == 0, err
    told = json.loads(printed)
    assert {*KEYS} <= set(told) and (told["network"], told["device"], told["isolation"]) == ("lite", "cpu", "segment")
    assert (told["width"], told["height"], told["working_size"]) == (96, 64, "48x32")


@pytest.mark.serial
def test_the_papers_network_is_measured_too(lowlat, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "WARM_UP", 1)
    monkeypatch.setattr(runs, "WARM_UP", 1)
    words = ("--network", "resnet101", "--size", "64x32", "--fps", 4)
    few = ("--frames", 3, "--baseline-frames", 1, "--table-frames", 0)
    code, printed, err = lowlat("latency", *words, *few, "--json", "--out", tmp_path)
    assert code == 0, err
    told = json.loads(printed)
    assert (told["network"], told["dtype"], told["width"], told["height"]) == ("resnet101", "float32", 64, 32)
    assert told["frames"] + told["dropped"] == 3 and told["max_ms"] > 0


def test_a_synthetic_run_takes_no_video_decoder():
    script = "import sys; sys.modules['av'] = None; import lowlat.cli, lowlat.jobs.latency, lowlat.jobs.latency.table"
    subprocess.run([sys.executable, "-c", script], check=True)
