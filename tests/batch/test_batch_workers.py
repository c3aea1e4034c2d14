"""Workers that die, and Ray: what comes out is the same as in one process, and nothing is left running."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest
from batches import children, record, results, under_way, writing
from waiting import until

import lowlat.jobs.batch as job
from lowlat.jobs.workers import Failed, in_processes, on_ray

pytestmark = [pytest.mark.thorough, pytest.mark.usefixtures("one_thread")]
NAMES = ("a.mp4", "b.mp4", "c.mp4")
# So that a worker is killed in the middle of a video, not at its end.
FRAMES = 150


def halved(number):
    """Returns half of a number; for 13 the process dies, for 7 it dies once."""
    marker = os.path.join(os.environ["LOWLAT_TEST_MARKS"], f"{number}")
    tries = len(os.listdir(marker)) if os.path.isdir(marker) else 0
    os.makedirs(os.path.join(marker, str(tries)))
    if number == 13 or (number == 7 and not tries):
        os.kill(os.getpid(), signal.SIGKILL)
    return number / 2


@pytest.fixture
def nothing_is_left():
    before = set(children())
    yield
    until(lambda: set(children()) <= before, "an end of all processes")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for seed, name in enumerate(NAMES):
        record(folder / name, FRAMES, seed)
    return folder


@pytest.fixture(scope="module")
def expected(videos, weights, tmp_path_factory):
    """The results of one process."""
    out = tmp_path_factory.mktemp("expected")
    report = job.batch([videos], out, weights=weights, workers=1)
    assert report.labelled == len(NAMES)
    return results(out)


@pytest.fixture
def kill_one():
    """Kills a worker of a batch into `out` once it has written labels; the results of the others go on."""
    killed, threads = [], []

    def begin(out):
        def work():
            pid = until(lambda: writing(out), "labels under way")
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

        threads.append(threading.Thread(target=work, daemon=True))
        threads[-1].start()
        return killed

    yield begin
    for thread in threads:
        thread.join(120)


def test_tasks_whose_process_dies_are_begun_again_and_others_go_on(tmp_path, monkeypatch, nothing_is_left):
    monkeypatch.setenv("LOWLAT_TEST_MARKS", str(tmp_path))
    outcomes = dict(in_processes(halved, [1, 7, 13, 4], workers=2, threads=1))
    assert "died" in outcomes.pop(13).error and outcomes == {1: 0.5, 7: 3.5, 4: 2.0}
    assert len(os.listdir(tmp_path / "7")) == 2 and len(os.listdir(tmp_path / "13")) == 3


def test_the_video_of_a_killed_process_is_labelled_all_the_same(
    videos, weights, expected, tmp_path, kill_one, nothing_is_left
):
    killed = kill_one(tmp_path)
    report = job.batch([videos], tmp_path, weights=weights, workers=2)
    assert killed and (report.labelled, report.failed) == (3, [])
    assert results(tmp_path) == expected and not under_way(tmp_path)


def test_an_interrupted_batch_ends_at_once_and_goes_on_where_it_was(videos, weights, expected, tmp_path):
    command = [sys.executable, "-m", "lowlat", "batch", str(videos), "-o", str(tmp_path), "--weights", str(weights)]
    command += ["--workers", "1", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        # The first one is done, the second is under way.
        until(lambda: (tmp_path / "a").exists() and writing(tmp_path), "labels of the second video")
        (worker,) = under_way(tmp_path)
        began = time.monotonic()
        program.send_signal(signal.SIGINT)
        printed, told = program.communicate(timeout=120)
    assert program.returncode == 130 and told.splitlines()[-1] == "lowlat: interrupted" and "Traceback" not in told
    report = json.loads(printed)
    assert (report["interrupted"], report["labelled"], report["failed"]) == (True, 1, [])
    assert time.monotonic() - began < 60 and not os.path.exists(f"/proc/{worker}")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".batch.lock", "a"]
    report = job.batch([videos], tmp_path, weights=weights, workers=1)
    assert (report.labelled, report.skipped) == (2, 1) and results(tmp_path) == expected


def test_a_cluster_labels_the_video_of_a_killed_worker_all_the_same(
    videos, weights, expected, tmp_path, monkeypatch, kill_one, nothing_is_left
):
    """The cluster has two machines of one core each, as far as Ray can tell."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    machine = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=machine)
    try:
        cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
        killed = kill_one(tmp_path)
        report = job.batch([videos], tmp_path, weights=weights, ray=cluster.address)
    finally:
        cluster.shutdown()
    assert killed and (report.labelled, report.failed) == (3, [])
    assert results(tmp_path) == expected and not under_way(tmp_path)


def test_ray_on_this_machine_is_started_and_ended(lowlat, videos, weights, expected, tmp_path, nothing_is_left):
    damaged = tmp_path / "bad.mp4"
    damaged.write_bytes((videos / "a.mp4").read_bytes()[:3000])
    words = ("batch", videos / "a.mp4", damaged, "-o", tmp_path / "out", "--weights", weights, "--workers", 2)
    code, printed, err = lowlat(*words, "--ray", "local", "--json")
    report = json.loads(printed)
    assert code == 2 and report["labelled"] == 1 and [one["input"] for one in report["failed"]] == [str(damaged)], err
    assert results(tmp_path / "out") == {name: data for name, data in expected.items() if name.startswith("a/")}


def test_tasks_whose_worker_on_ray_dies_are_begun_again(tmp_path, monkeypatch, nothing_is_left):
    monkeypatch.setenv("LOWLAT_TEST_MARKS", str(tmp_path))
    # Ray's workers import this file, which imports others of the tests.
    here = os.path.dirname(__file__)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, os.path.dirname(here), os.environ.get("PYTHONPATH", "")]))
    outcomes = dict(on_ray(halved, [1, 7, 13, 4], 2, 1, address="local"))
    assert isinstance(outcomes.pop(13), Failed) and outcomes == {1: 0.5, 7: 3.5, 4: 2.0}
    assert len(os.listdir(tmp_path / "7")) == 2 and len(os.listdir(tmp_path / "13")) == 3


@pytest.mark.parametrize("address", ["127.0.0.1:9", "auto"])
def test_a_cluster_that_is_not_there_is_told(lowlat, videos, weights, tmp_path, address):
    code, printed, err = lowlat("batch", videos, "-o", tmp_path, "--weights", weights, "--ray", address)
    assert (code, printed) == (2, "") and f"expected a cluster at '{address}', got none" in err.splitlines()[-1]


def test_a_cluster_that_asks_for_a_token_gets_it(videos, weights, expected, tmp_path):
    """`ray start` starts one like this where there is a token: Ray's own word for a program would leave it out."""
    home, port = tmp_path / "home", free_port()
    home.mkdir()
    unset = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"HOME": str(home), "RAY_USAGE_STATS_ENABLED": "0"}
    ray = os.path.join(os.path.dirname(sys.executable), "ray")

    def run(*words):
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(ray, "get-auth-token", "--generate")
    options = ("--num-cpus=1", "--include-dashboard=false", f"--object-store-memory={100 << 20}", "--block")
    head = subprocess.Popen(
        [ray, "start", "--head", f"--port={port}", *options], env=environment, stdout=subprocess.DEVNULL
    )
    try:
        until(lambda: answers(port), "a cluster")
        command = [sys.executable, "-m", "lowlat", "batch", str(videos / "a.mp4"), "-o", str(tmp_path / "out")]
        printed = run(*command, "--weights", str(weights), "--json", "--ray", f"127.0.0.1:{port}")
        assert json.loads(printed)["labelled"] == 1
        assert results(tmp_path / "out") == {name: data for name, data in expected.items() if name.startswith("a/")}
    finally:
        head.terminate()
        head.wait(60)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(port):
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False
