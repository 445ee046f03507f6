"""What a training has set or does beside the monitor: it ends in the same bits, and everything is logged."""

import logging
import shutil
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from rlwatch import Watch
from tests.fixtures.saved import small_probe
from tests.fixtures.updates import STEPS, same, trained
from tests.fixtures.watched import Coarse, read


class Of(nn.Module):
    """A network in another precision."""

    def __init__(self, dtype):
        super().__init__()
        self.dtype, self.inner = dtype, Coarse().to(dtype)

    def forward(self, x):
        return self.inner.body(x.to(self.dtype) / 255)


@contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(mode=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode=False)


@contextmanager
def nothing():
    yield


@pytest.mark.parametrize(
    ("make", "setting"),
    [
        (lambda: Of(torch.float16), nothing()),
        (lambda: Of(torch.bfloat16), nothing()),
        (lambda: Of(torch.float64), default_dtype(torch.float64)),
        (lambda: Of(torch.float32), default_dtype(torch.float64)),
        (Coarse, deterministic()),
        (lambda: nn.DataParallel(Coarse()), nothing()),
    ],
    ids=["float16", "bfloat16", "float64", "other default", "deterministic", "parallel"],
)
def test_precisions_and_modes_are_watched_in_silence(tmp_path, caplog, make, setting):
    probe = small_probe(tmp_path)
    with caplog.at_level(logging.WARNING, logger="rlwatch"), setting:
        expected = trained(make)
        found = trained(make, lambda network: Watch(network, probe, logdir=tmp_path / "log", every=1))
    assert same(expected, found)
    assert not caplog.text
    assert [event.step for event in read(tmp_path / "log").Scalars("rlwatch/q/greedy")] == [0, 1, 2, 3, 4]


def test_tensors_that_are_made_elsewhere_by_default_are_not_the_monitors(tmp_path, caplog):
    torch.manual_seed(0)
    network, probe = Coarse(), small_probe(tmp_path)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with caplog.at_level(logging.WARNING, logger="rlwatch"), default_device("meta"):
        watch = Watch(network, probe, logdir=tmp_path / "log", every=1)
        report = watch(0)
        watch.close()
    assert not caplog.text
    assert report.validity
    assert same(before, network.state_dict())


def test_a_probe_file_that_is_replaced_is_not_read_again(tmp_path):
    probe = small_probe(tmp_path)

    def replace(step):
        if step == 1:
            probe.write_bytes(b"something else")

    watch = trained(Coarse, lambda network: Watch(network, probe, logdir=tmp_path / "log", every=1), replace)
    assert same(trained(Coarse), watch)
    assert len(read(tmp_path / "log").Scalars("rlwatch/q/greedy")) == STEPS + 1


def test_a_log_folder_that_is_deleted_is_told_once(tmp_path, caplog):
    probe, log = small_probe(tmp_path), tmp_path / "log"

    def delete(step):
        if step == 2:
            shutil.rmtree(log)

    with caplog.at_level(logging.WARNING, logger="rlwatch"):
        found = trained(Coarse, lambda network: Watch(network, probe, logdir=log, every=1), delete)
    assert same(trained(Coarse), found)
    assert caplog.text.count("nothing was logged") == 1
    assert "the event file must stay in its folder" in caplog.text


def test_workers_of_a_data_loader_that_fork_after_attach_change_nothing(tmp_path):
    probe = small_probe(tmp_path)

    def load(_step):
        assert len(list(DataLoader(range(8), num_workers=2, multiprocessing_context="fork"))) == 8

    found = trained(Coarse, lambda network: Watch(network, probe, logdir=tmp_path / "log", every=1), load)
    assert same(trained(Coarse, between=load), found)
    assert [event.step for event in read(tmp_path / "log").Scalars("rlwatch/q/greedy")] == [0, 1, 2, 3, 4]
