"""The monitor on real probes: what it logs, what it leaves alone, what it survives."""

import logging
import math
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from rlwatch import Watch
from tests.fixtures.watched import Coarse, SeesOnePixel, read, tags


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Coarse()


@pytest.fixture
def attach(tmp_path, short_probe):
    """A Watch on Breakout's probe with its log in tmp_path; it is closed after the test."""
    attached = []

    def make(network, probe=short_probe, **settings):
        where = {} if "writer" in settings else {"logdir": tmp_path}
        attached.append(Watch(network, probe, **(where | settings)))
        return attached[-1]

    yield make
    for watch in attached:
        watch.close()


def test_a_checkpoint_logs_every_statistic_the_clips_and_the_findings(tmp_path, network, attach):
    watch = attach(network, every=1)
    report = watch(0)
    watch.close()
    assert report is not None
    found = tags(tmp_path)
    for target in ("greedy", "contrast"):
        assert {f"rlwatch/lift/{target}/{name}" for name in ("ball", "paddle", "bricks")} <= found
        assert {f"rlwatch/share/{target}/ball", f"rlwatch/clip/{target}", f"rlwatch/untrained/{target}/ball"} <= found
    assert {"rlwatch/q/greedy", "rlwatch/q/gap", "rlwatch/cost/explain", "rlwatch/cost/fraction"} <= found
    assert any(tag.startswith("rlwatch/findings") for tag in found)


def test_a_network_that_sees_one_pixel_of_the_wall_looks_at_the_walls_and_nothing_else(attach, short_probe):
    watch = attach(SeesOnePixel(), method="epsilon")
    report = watch(0)
    objects = report.targets["greedy"].objects
    pixels_of_walls = short_probe.masks()["walls"].sum(axis=(1, 2, 3)).mean()
    assert objects["walls"].share == pytest.approx(1)
    assert objects["walls"].lift == pytest.approx(4 * 84 * 84 / pixels_of_walls, rel=1e-3)
    assert objects["paddle"].lift == 0
    assert report.targets["greedy"].stack == pytest.approx((0, 0, 0, 1))
    assert report.targets["greedy"].centre == pytest.approx((42, 1))


def test_only_due_steps_are_examined(network, attach):
    watch = attach(network, every=10)
    made = [step for step in range(25) if watch(step) is not None]
    assert made == [0, 10, 20]
    assert watch.finish(24) is not None
    assert watch.finish(24) is None


def test_attaching_and_calls_at_which_nothing_is_due_count_in_the_cost(network, attach):
    watch = attach(network)
    assert watch._schedule.spent > 0
    watch(0)
    spent = watch._schedule.spent
    for step in range(1, 2000):
        watch(step)
    assert watch._schedule.spent > spent


def test_most_calls_at_which_nothing_is_due_pass_unseen_but_not_after_the_end(network, attach, monkeypatch, caplog):
    watch, optimiser, looks = attach(network), torch.optim.SGD(network.parameters(), lr=0.0), []
    look = Watch._look
    monkeypatch.setattr(Watch, "_look", lambda self, *args: looks.append(args) or look(self, *args))
    watch.attach(optimiser)
    watch(0)
    for step in range(1, 100):
        watch(step)
        optimiser.step()
    assert len(looks) < 20
    watch.close()
    watch(100)
    assert "was closed" in caplog.text


def test_a_shared_writer_is_used_and_stays_open(tmp_path, network, attach):
    writer = SummaryWriter(tmp_path)
    watch = attach(network, writer=writer)
    watch(0)
    watch.close()
    writer.add_scalar("train/return", 3.0, 1)
    writer.close()
    assert {"train/return", "rlwatch/lift/greedy/ball"} <= tags(tmp_path)


def test_an_attached_optimiser_drives_it_until_it_is_closed(tmp_path, network, attach):
    optimiser = torch.optim.SGD(network.parameters(), lr=0.0)
    watch = attach(network, every=8)
    watch.attach(optimiser, steps_per_update=4)
    for _ in range(4):
        optimiser.step()
    watch.close()
    optimiser.step()
    steps = [event.step for event in read(tmp_path).Scalars("rlwatch/lift/greedy/ball")]
    assert steps == [4, 12]


def test_the_network_and_every_generator_stay_bit_identical(attach):
    torch.manual_seed(0)
    network = nn.Sequential(Coarse(), nn.Dropout(0.5), nn.BatchNorm1d(4))
    network.train()
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    generator = torch.get_rng_state()
    watch = attach(network)
    assert watch(0) is not None
    watch.close()
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(module.training for module in network.modules())


def test_weights_that_are_not_numbers_give_a_warning_and_no_number(tmp_path, network, attach, caplog):
    watch = attach(network, every=1)
    watch(0)
    with torch.no_grad():
        network.body[0].weight.fill_(math.nan)
    with caplog.at_level(logging.WARNING, logger="rlwatch"):
        assert watch(1) is None
        assert watch(2) is None
    watch.close()
    assert [event.step for event in read(tmp_path).Scalars("rlwatch/lift/greedy/ball")] == [0]
    assert sum("training goes on" in record.message for record in caplog.records) == 1
    assert "not finite" in caplog.text


def test_a_fault_is_logged_once_and_the_next_checkpoint_works(network, attach, caplog):
    watch = attach(network, every=1)
    whole, network.body = network.body, None
    assert watch(0) is None
    assert watch(1) is None
    network.body = whole
    assert watch(2) is not None
    assert len([record for record in caplog.records if "training goes on" in record.message]) == 1


FULL_DISK = """
import resource, sys, torch
from rlwatch import Watch
from tests.fixtures.watched import Coarse
watch = Watch(Coarse(), "breakout", logdir=sys.argv[1], every=1)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # every write beyond fails, as on a full disk
print("reports", [watch(step) is not None for step in range(3)])
watch.close()
print("training goes on")
"""


def test_a_disk_that_fills_up_stops_the_log_and_not_the_training(tmp_path):
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "training goes on"
    assert "nothing was logged" in ended.stderr
    assert "File too large" in ended.stderr


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"probe": "pong"}, "which has 6 actions"),
        ({"game": "pong"}, "the training of pong"),
        ({"probe": "breakuot"}, "breakout"),
        ({"budget": 3.0}, "part of the wall clock"),
        ({"method": "epsilon_gama_box"}, "epsilon_gamma_box"),
    ],
)
def test_what_does_not_fit_is_refused_at_attach_with_a_remedy(network, attach, settings, remedy):
    with pytest.raises((ValueError, FileNotFoundError), match=remedy):
        attach(network, **settings)


def test_the_game_goes_by_any_of_its_names(network, attach):
    assert attach(network, game="ALE/Breakout-v5").finding == ""


def test_a_folder_that_cannot_be_written_is_refused_at_attach(tmp_path, network, attach):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"logdir|folder"):
        attach(network, logdir=tmp_path / "file" / "run")
