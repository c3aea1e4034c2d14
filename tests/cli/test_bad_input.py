"""Every mistake of the user is told in one line that names it, with exit code 2."""

import ast
from pathlib import Path

import pytest

import lowlat as package


def test_an_input_that_is_not_there(refused, segmenter, tmp_path):
    assert "none.mp4" in refused("segment", tmp_path / "none.mp4", "-o", tmp_path / "out.mp4")


def test_a_truncated_video(refused, segmenter, clip, tmp_path):
    clip.write_bytes(clip.read_bytes()[:200])
    assert "clip.mp4" in refused("segment", clip, "-o", tmp_path / "out.mp4")
    assert "clip.mp4" in refused("demo", clip, "-o", tmp_path / "out")


def test_a_file_that_is_no_video(refused, segmenter, tmp_path):
    (tmp_path / "notes.txt").write_text("not a video\n" * 100)
    assert "notes.txt" in refused("segment", tmp_path / "notes.txt", "-o", tmp_path / "out.mp4")


def test_a_folder_without_images(refused, segmenter, tmp_path):
    (tmp_path / "in").mkdir()
    assert "expected images" in refused("segment", tmp_path / "in", "-o", tmp_path / "out.mp4")


def test_a_camera_that_is_not_there(refused, segmenter, tmp_path):
    assert "camera 97" in refused("segment", "97", "-o", tmp_path / "out.mp4")


@pytest.mark.parametrize("place", ["none/out.mp4", "file/out", "out.gif"])
def test_an_output_that_cannot_be_written(refused, segmenter, clip, tmp_path, place):
    (tmp_path / "file").touch()
    assert "expected" in refused("segment", clip, "-o", tmp_path / place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "file"]


def test_an_output_folder_of_the_demo_that_cannot_be_written(refused, segmenter, clip, tmp_path):
    (tmp_path / "file").touch()
    assert "--out" in refused("demo", clip, "-o", tmp_path / "file" / "out")


def test_an_output_that_is_the_input(refused, segmenter, clip):
    before = clip.read_bytes()
    refused("segment", clip, "-o", clip)
    assert clip.read_bytes() == before


@pytest.mark.parametrize(
    "options, words",
    [
        (("--policy", "sometimes"), "sometimes"),
        (("--policy", "every"), "--interval"),
        (("--interval", "5"), "--policy"),
        (("--overload", "panic"), "panic"),
        (("--mode", "fast"), "fast"),
        (("--size", "640"), "--size as in 640x360"),
        (("--resize", "640"), "--resize as in 640x360"),
        (("--size", "640x360", "--pixels", "1000"), "--pixels or --size"),
        (("--pixels", "-1"), "--pixels of at least 1"),
        (("--fps", "0"), "fps"),
        (("--max-frames", "0"), "--max-frames"),
    ],
)
def test_options_that_make_no_sense(refused, segmenter, clip, tmp_path, options, words):
    assert words in refused("segment", clip, "-o", tmp_path / "out.mp4", *options)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_weights_that_are_not_there(refused, clip, tmp_path):
    for command in (
        ("segment", clip, "-o", tmp_path / "out.mp4"),
        ("export", "-o", tmp_path / "out", "--size", "64x48"),
    ):
        assert "found none at none.safetensors; check" in refused(*command, "--weights", "none.safetensors")


def test_an_unknown_policy_of_the_simulation(refused):
    assert "sometimes" in refused("simulate", "--policy", "sometimes")


def test_debug_shows_where_an_error_comes_from(lowlat):
    from typer.testing import CliRunner

    from lowlat.cli import app

    result = CliRunner().invoke(app, ["--debug", "simulate", "--policy", "sometimes"])
    assert isinstance(result.exception, ValueError)


@pytest.mark.parametrize(
    "options, words",
    [
        ((), "--data"),
        (("base", "--data", "."), "train.txt"),
        (("base", "--data", "nowhere:."), "nowhere"),
        (("everything", "--data", "."), "everything"),
        (("base", "--data", ".", "--video", "drive.mp4"), "--video with distill only"),
        (("distill",), "--video"),
        (("distill", "--video", "drive.mp4", "--data", "."), "--data"),
        (("distill", "--video", "drive.mp4"), "drive.mp4"),
        (("distill", "--video", "drive.mp4", "--precision", "float8"), "float8"),
        (("distill", "--video", "drive.mp4", "--steps", "0"), "steps"),
        (("distill", "--video", "drive.mp4", "--labels", "firm"), "firm"),
    ],
)
def test_trainings_that_make_no_sense(refused, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    assert words in refused("train", *options)
    assert not list(tmp_path.iterdir())


PRINTING = ("print", "sys.exit", "progress.console.print")


def begins_with_the_name(node):
    """Whether a string, formatted or plain, begins as the lines do that the program prints."""
    first = node.values[0] if isinstance(node, ast.JoinedStr) and node.values else node
    return isinstance(first, ast.Constant) and str(first.value).startswith("lowlat:")


def test_only_what_is_printed_begins_with_the_programs_name():
    """Whoever prints a line puts the name before it: an error or a notice that began with it would say it twice."""
    printed = 0
    for path in Path(package.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text())
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        prints = [call for call in calls if ast.unparse(call.func) in PRINTING]
        meant = {id(part) for call in prints for part in ast.walk(call)}
        for node in ast.walk(tree):
            if begins_with_the_name(node):
                assert id(node) in meant, f"{path}:{node.lineno}"
                printed += 1
    assert printed > 3, "this test looks at the wrong strings"
