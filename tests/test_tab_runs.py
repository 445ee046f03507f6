"""The RLWATCH tab on runs that ended before their time, and on those that do not belong together."""

from dataclasses import replace

import numpy as np
import pytest

from rlwatch.monitor.logbook import ENDED
from rlwatch.tensorboard.writer import RunWriter
from tests.fixtures.synthetic_run import Scene, Training, report_at, write_run
from tests.fixtures.tab import checkpoints, own_tab

pytestmark = pytest.mark.real


def test_where_nothing_could_be_explained_any_more_that_stands_below_the_headline(browser, tmp_path, scene):
    ended = ENDED.format(step=90, reason="the weights have diverged")
    write_run(tmp_path / "runs" / "ended", 1, scene=scene, phases=1)
    writer = RunWriter(logdir=tmp_path / "runs" / "ended")
    report = report_at(scene, 0, 0.0, Training(0, 1, 1), np.random.default_rng(0))
    writer.revision(replace(report, notes=(ended,)), 90)
    writer.close()
    with own_tab(browser, tmp_path / "runs", tmp_path, lambda address: checkpoints(address, "ended")) as tab:
        tab.open()
        tab.says("#notices", ended)


def test_curves_and_frames_of_another_probe_are_not_put_side_by_side_in_silence(browser, tmp_path, scene):
    write_run(tmp_path / "runs" / "here", 2, scene=scene, phases=1)
    write_run(tmp_path / "runs" / "there", 1, scene=Scene.of("pong"), phases=1)
    with own_tab(browser, tmp_path / "runs", tmp_path, lambda address: checkpoints(address, "there")) as tab:
        tab.open(run="here", others=["there"])
        tab.says(".timeline .note", "on another probe, so not to be compared: there")
        tab.open(run="here", run2="there", compare=True)
        tab.says("footer .told", "no maps of the same frames to compare")
        tab.open(run="here", others=[], compare=True)
        tab.says("footer .told", "bars: difference of A and B")
        assert "another probe" not in tab.text(".timeline .note")
