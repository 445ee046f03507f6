"""What becomes of a checkpoint that has come back."""

import pytest

from rlwatch.monitor.faults import Fault, Faults
from rlwatch.monitor.ledger import Ledger
from rlwatch.monitor.logbook import Job, Outcome, Page
from rlwatch.monitor.schedule import Schedule
from rlwatch.report import Finding
from rlwatch.tensorboard.writer import RunWriter
from tests.fixtures.logs import REPORT


@pytest.fixture
def schedule():
    """One that lives in a single moment."""
    return Schedule(clock=lambda: 100.0)


def test_all_is_paid_for_and_only_what_recurs_is_the_next_ones_price(schedule):
    ledger = Ledger(None, Faults(), schedule)
    ledger.book(Outcome(Job(5), REPORT, seconds=10.0, once=3.0, costly={"validity": 4.0}))
    assert schedule.spent == pytest.approx(10, abs=0.1)
    assert schedule._price == pytest.approx(3, abs=0.1)
    assert schedule._last_price == 4
    assert schedule.last_step == 5


def test_what_has_ended_is_told_until_there_is_a_report_again(schedule):
    ledger, ended = Ledger(None, Faults(), schedule), Finding(1, "", "", "from step 1 on nothing could be explained")
    ledger.book(Outcome(Job(1), None, 0.0, ended=ended))
    ledger.book(Outcome(Job(2), None, 0.0))
    assert ledger.ended is ended
    ledger.book(Outcome(Job(3), REPORT, 0.0))
    assert ledger.ended is None
    assert ledger.made == 1


def test_a_page_that_cannot_be_written_is_told_and_the_checkpoint_paid_for(schedule, tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    writer = RunWriter(logdir=tmp_path)
    monkeypatch.setattr(writer, "checkpoint", full)
    ledger = Ledger(writer, Faults(), schedule)
    page = Page(REPORT, clips={"greedy": b"GIF8"})
    ledger.book(Outcome(Job(7), REPORT, 2.0, faults=(Fault("step 6", "it was busy"),), page=page))
    busy, full_disk = caplog.messages
    assert "it was busy" in busy
    assert "No space left" in full_disk
    assert schedule.spent >= 2
    assert schedule.last_step == 7
    ledger.close()
