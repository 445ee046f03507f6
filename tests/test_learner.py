"""The network, the loss and the update are the paper's, whatever the threads."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d, linear

from agents.learner import TRIM_EVERY, Learner, QNetwork, give_back_memory, td_loss
from agents.replay import Batch, Replay
from tests.fixtures.agents import Streams, same


def test_the_loss_is_hubers_of_reward_plus_discounted_best_next_value_and_ends_at_done():
    values = torch.tensor([[0.0, 0.0], [1.0, 2.0], [3.0, 5.0]])  # Q by the newest frame's grey level

    def network(stacks):
        return values[stacks[:, 3, 0, 0].long()]

    frames = torch.zeros((3, 5, 84, 84), dtype=torch.uint8)
    frames[:, 3], frames[:, 4] = 1, 2
    batch = Batch(frames, torch.tensor([0, 1, 0]), torch.tensor([1.0, -1.0, 0.5]), torch.tensor([0.0, 0.0, 1.0]))
    loss, q_value = td_loss(network, lambda stacks: network(stacks) / 2, batch, gamma=0.8)
    # goals: 1 + 0.8·2.5 = 3, −1 + 0.8·2.5 = 1, 0.5; taken: 1, 2, 1; differences −2, 1, 0.5
    assert loss.item() == pytest.approx((1.5 + 0.5 + 0.125) / 3)
    assert q_value.item() == pytest.approx(4 / 3)


def test_the_network_is_natures_and_divides_pixels_by_255():
    network, stacks = QNetwork(6), torch.randint(0, 256, (2, 4, 84, 84), dtype=torch.uint8)
    c1, c2, c3, f1, head = [(m.weight, m.bias) for m in network.modules() if hasattr(m, "weight")]
    x = conv2d(stacks.float() / 255, *c1, stride=4).relu()
    x = conv2d(conv2d(x, *c2, stride=2).relu(), *c3).relu()
    torch.testing.assert_close(network(stacks), linear(linear(x.flatten(1), *f1).relu(), *head))
    assert [tuple(w.shape) for w, _ in (c1, c2, c3, f1, head)] == [
        (32, 4, 8, 8),
        (64, 32, 4, 4),
        (64, 64, 3, 3),
        (512, 3136),
        (6, 512),
    ]


def test_q_values_keep_float32_under_autocast():
    network, stacks = QNetwork(4), torch.randint(0, 256, (64, 4, 84, 84), dtype=torch.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        q_values = network(stacks)
    assert q_values.dtype == torch.float32
    assert not torch.equal(q_values, q_values.bfloat16().float())


def learner(threads=1):
    torch.manual_seed(0)
    return Learner(QNetwork(4), learning_rate=1e-3, gamma=0.99, threads=threads, bfloat16=False)


def batch_of(count):
    streams, replay = Streams(2, np.random.default_rng(0)), Replay(64, 2)
    for _ in range(20):
        streams.step(replay)
    return replay.sample(count, np.random.default_rng(0))


def test_the_threads_shares_add_up_to_the_gradient_of_the_whole_batch():
    whole, shared, batch = learner(), learner(threads=3), batch_of(7)
    torch.testing.assert_close(whole.update(batch), shared.update(batch))
    for one, other in zip(whole.q_network.parameters(), shared.q_network.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-7)


def test_the_target_network_keeps_its_weights_until_it_is_given_new_ones():
    learning = learner()
    first = [weight.clone() for weight in learning.q_network.parameters()]
    learning.update(batch_of(7))
    assert same(list(learning.target_network.parameters()), first)
    assert not same(list(learning.q_network.parameters()), first)
    learning.copy_to_target()
    assert same(list(learning.target_network.parameters()), list(learning.q_network.parameters()))


def anonymous():
    return int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text()).group(1)) / 1024


def test_memory_that_is_free_goes_back_to_the_system():
    blocks = [torch.ones(25_000) for _ in range(2_000)]
    pin = torch.ones(25_000)  # the heap ends behind it, so that the allocator gives nothing back by itself
    before = anonymous()
    del blocks
    assert anonymous() > before - 20
    give_back_memory()
    assert before - anonymous() > 150
    assert pin.sum() == 25_000


def test_it_is_given_back_once_in_many_updates(monkeypatch):
    given = []
    monkeypatch.setattr("agents.learner.give_back_memory", lambda: given.append(one.updates))
    one = learner()
    frames = torch.zeros((2, 5, 84, 84), dtype=torch.uint8)
    batch = Batch(frames, torch.zeros(2, dtype=torch.int64), torch.zeros(2), torch.ones(2))
    one.updates = TRIM_EVERY - 2
    for _ in range(3):
        one.update(batch)
    assert given == [TRIM_EVERY]
