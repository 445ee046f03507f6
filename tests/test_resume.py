"""A log that has some of the checkpoints already."""

import logging
import shutil

import pytest

from rlwatch.monitor.resume import read_log
from rlwatch.offline import explain_checkpoints
from rlwatch.tensorboard.runs import read_run
from tests.fixtures.saved import save_checkpoints, small_probe, without_cost


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """What explain_checkpoints is asked with, and what it says of four checkpoints in one go."""
    folder = tmp_path_factory.mktemp("asked")
    files = sorted(save_checkpoints(folder / "checkpoints", 4).iterdir())
    settings = {"probe": small_probe(folder), "method": "epsilon"}
    return files, settings, without_cost(explain_checkpoints(files, **settings))


def test_a_log_goes_on_where_it_ended_as_if_it_had_never_stopped(asked, tmp_path, caplog):
    files, settings, whole = asked
    first = without_cost(explain_checkpoints(files[:2], **settings, logdir=tmp_path))
    with caplog.at_level(logging.WARNING, logger="rlwatch"):
        then = without_cost(explain_checkpoints(files, **settings, logdir=tmp_path))
    assert first + then == whole
    assert "2 of 4 checkpoints left out, since they are in" in caplog.text
    assert list(explain_checkpoints(files, **settings, logdir=tmp_path)) == []
    assert read_run(tmp_path).scalars["rlwatch/q/churn"][0].tolist() == [100, 200, 300]


def test_a_gap_in_the_log_is_filled(asked, tmp_path):
    files, settings, whole = asked
    assert len(list(explain_checkpoints([files[0], files[3]], **settings, logdir=tmp_path))) == 2
    assert without_cost(explain_checkpoints(files, **settings, logdir=tmp_path)) == whole[1:3]


def test_what_was_found_before_counts_towards_what_is_found(asked, tmp_path):
    files, settings, _ = asked
    list(explain_checkpoints(files[:1], **settings, logdir=tmp_path))
    before = read_log(tmp_path).objects(0, ["greedy"], ["ball", "ghost"])["greedy"]
    assert before["ball"].low < before["ball"].lift < before["ball"].high
    assert before["ghost"].frames == 0


def test_a_checkpoint_that_a_crash_left_half_written_is_made_again(asked, tmp_path):
    files, settings, _ = asked
    list(explain_checkpoints(files[:2], **settings, logdir=tmp_path))
    (log,) = tmp_path.iterdir()
    log.write_bytes(log.read_bytes()[:-100_000])
    assert "rlwatch/q/churn" in read_run(tmp_path).scalars
    assert [report.step for report in explain_checkpoints(files[:2], **settings, logdir=tmp_path)] == [100]


def test_maps_that_were_not_checked_are_looked_at_again_when_checks_are_asked_for(asked, tmp_path):
    files, settings, _ = asked
    list(explain_checkpoints(files[:1], **settings, logdir=tmp_path))
    (report,) = explain_checkpoints(files[:1], **settings, logdir=tmp_path, judge=True)
    assert report.validity
    assert list(explain_checkpoints(files[:1], **settings, logdir=tmp_path, judge=True)) == []


def test_the_log_of_other_questions_or_of_other_checkpoints_is_refused(asked, tmp_path):
    files, settings, _ = asked
    log = tmp_path / "log"
    list(explain_checkpoints(files[:1], **settings, logdir=log))
    with pytest.raises(ValueError, match="another method, epsilon, got gradient_x_input: choose another logdir"):
        list(explain_checkpoints(files[:1], **(settings | {"method": "gradient_x_input"}), logdir=log))
    with pytest.raises(ValueError, match=r"another probe, .* choose another logdir"):
        list(explain_checkpoints(files[:1], **(settings | {"probe": "breakout"}), logdir=log))
    other = shutil.copytree(files[0].parent, tmp_path / "elsewhere" / "weights")
    with pytest.raises(ValueError, match=r"holds step 0 of .*choose another --logdir"):
        list(explain_checkpoints([other], **settings, logdir=log))


def test_a_log_made_with_other_keywords_of_the_method_is_refused(asked, tmp_path):
    files, settings, _ = asked
    settings = settings | {"method": "integrated_gradients", "logdir": tmp_path}
    (one,) = explain_checkpoints(files[:1], **settings, options={"steps": 2, "batch_size": 4})
    assert one.as_json()["options"] == {"steps": 2}
    with pytest.raises(ValueError, match=r"another options, {'steps': 2}, got {'steps': 3}: choose another logdir"):
        list(explain_checkpoints(files[:2], **settings, options={"steps": 3}))
    assert [one.step for one in explain_checkpoints(files[:2], **settings, options={"steps": 2})] == [100]


def test_a_target_that_the_log_has_not_is_explained(asked, tmp_path):
    files, settings, _ = asked
    list(explain_checkpoints(files[:2], **settings, logdir=tmp_path))
    for steps in ([0, 100], []):
        reports = explain_checkpoints(files[:2], **settings, logdir=tmp_path, target="action=1")
        assert [report.step for report in reports] == steps


def test_progress_is_told_by_checkpoint(asked):
    files, settings, _ = asked
    told = []
    list(explain_checkpoints(files[:2], **settings, progress=lambda *counts: told.append(counts)))
    assert told == [(1, 2), (2, 2)]
