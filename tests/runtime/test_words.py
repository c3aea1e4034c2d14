"""What messages count."""

import pytest

from lowlat.jobs.batch import BatchReport, failed_words, table
from lowlat.jobs.report.kinds import Figure
from lowlat.runtime.words import counted
from lowlat.video.places import missing_line


@pytest.mark.parametrize(("number", "words"), [(0, "0 frames"), (1, "1 frame"), (2, "2 frames")])
def test_one_is_not_many(number, words):
    assert counted(number, "frame") == words
    assert Figure("age", "age", "frames").words(number) == words
    if number:
        assert f": {words} could not be decoded: 0" in missing_line("a.mp4", range(number))


def test_a_batch_counts_its_videos():
    report = BatchReport("out", 1, failed=[{"input": "a.mp4", "error": "no video"}])
    assert table(report).title.plain == "1 video to out" and "expected 1 video that" in failed_words(report)


def test_other_units_are_left_as_they_are():
    assert Figure("latency", "p50_ms", "ms", 1).words(1.0) == "1.0 ms" and Figure("share", "x", "%").words(1) == "1 %"
