"""How far maps can be trusted, on networks of which it is known."""

import logging
import math

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from rlwatch import Probe, Watch, explain
from rlwatch.measures.flipping import Gain
from rlwatch.measures.sums import pixels
from rlwatch.monitor.asking import Explain, weights
from rlwatch.monitor.schedule import Schedule
from rlwatch.monitor.trust import Sample, sample, trust, validity
from rlwatch.tensorboard import tags
from tests.fixtures.networks import Nature

FRAMES = np.random.default_rng(0).integers(0, 256, size=(8, 4, 20, 20)).astype(np.uint8)
BALL = np.zeros(FRAMES.shape, bool)
BALL[:, -1, 4:8, 4:8] = True
BLACK = np.zeros((20, 20), np.uint8)
CHOSEN = Sample(
    np.arange(8), FRAMES, np.arange(8) // 2, {"ball": BALL, "moving": BALL}, {"black": BLACK, "background": BLACK + 60}
)


def view(frames):
    return frames.float() / 255


class SeesTheBall(nn.Module):
    """Q of the first action is the light on the ball of the newest frame, that of the second is its half."""

    def __init__(self):
        super().__init__()
        self.eye = nn.Conv2d(4, 1, 1, bias=False)
        self.head = nn.Linear(400, 3, bias=False)
        with torch.no_grad():
            self.eye.weight.copy_(torch.tensor([0.0, 0, 0, 1]).view(1, 4, 1, 1))
            self.head.weight.zero_()
            self.head.weight[0, torch.from_numpy(BALL[0, -1].ravel())] = 1
            self.head.weight[1] = self.head.weight[0] / 2

    def forward(self, x):
        return self.head(torch.relu(self.eye(x)).flatten(1))


def fresh():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Nature(bias=False)


def checked(network, **settings):
    return validity(network, CHOSEN, view, np.random.default_rng(0), **settings)


@pytest.fixture(scope="module")
def seen():
    return checked(SeesTheBall(), method="epsilon")


def test_maps_of_a_planted_object_hit_it_beat_chance_and_hold_the_score(seen):
    for target in ("greedy", "contrast"):
        assert seen[f"pointing_ball_{target}"] == 1
        assert seen[f"mass_moving_{target}"] == pytest.approx(1)
        assert seen[f"chance_ball_{target}"] == pytest.approx(16 / 1600)
        assert seen[f"conservation_{target}"] == pytest.approx(1, abs=1e-4)
        assert seen[f"gain_low_{target}"] > 0.3


def test_actions_that_rest_on_the_same_pixels_have_the_same_maps(seen):
    assert seen["action_greedy"] == pytest.approx(1)
    assert checked(fresh(), method="epsilon")["action_greedy"] < 0.9


def test_the_contrast_weighs_the_best_action_against_the_mean_of_the_others():
    counted = weights(np.array([1, 0]), 3)
    np.testing.assert_array_equal(counted["greedy"], [[0, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(counted["contrast"], [[-0.5, 1, -0.5], [1, -0.5, -0.5]])


def test_a_network_that_looks_at_one_place_does_not_move_its_maps_along(seen):
    assert seen["shift_greedy"] < 0.9


def test_a_network_without_weights_on_the_picture_gives_maps_without_power():
    network = SeesTheBall()
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias = nn.Parameter(torch.tensor([3.0, 2.0, 1.0]))
    figures = checked(network, method="epsilon")
    assert figures["gain_greedy"] == figures["gain_high_greedy"] == 0
    assert math.isnan(figures["pointing_ball_greedy"])
    assert math.isnan(figures["randomised_head_greedy"])
    assert "have no power" in trust(figures)


def test_a_head_drawn_anew_changes_maps_of_epsilon_but_hardly_those_of_positive_rules():
    figures = {method: checked(fresh(), method=method) for method in ("epsilon", "excitation_backprop")}
    assert figures["epsilon"]["randomised_head_greedy"] < 0.8
    assert figures["excitation_backprop"]["randomised_head_greedy"] > 0.95
    assert trust(figures["epsilon"]).startswith("these maps depend on the Q-head: yes")
    assert trust(figures["excitation_backprop"]).startswith("these maps depend on the Q-head: no")


def test_the_action_stays_what_it_was_whatever_a_changed_network_prefers():
    network = fresh().double()
    frames = torch.from_numpy(FRAMES).double() / 255
    q_values = network(frames)
    fixed = Explain(lambda asked: asked.double() / 255, "epsilon", q_values.argmax(1).numpy(), {})
    for target, found in fixed(network, FRAMES).items():
        expected = explain(network, frames, "epsilon", target)
        np.testing.assert_allclose(found.relevance, expected.relevance.numpy(), rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(found.score, expected.score.detach().numpy(), rtol=1e-5)
    other = Explain(lambda asked: asked.double() / 255, "epsilon", np.full(8, 2), {})(network, FRAMES)["greedy"]
    np.testing.assert_allclose(
        other.relevance, explain(network, frames, "epsilon", "action=2").relevance, rtol=1e-4, atol=1e-7
    )


def test_in_16_bits_the_contrast_is_that_of_the_q_values_nonetheless():
    network, view_of = fresh().bfloat16(), lambda asked: asked.bfloat16() / 255
    network[-1].bias = nn.Parameter(torch.full((3,), 12.3, dtype=torch.bfloat16))
    expected = explain(network, view_of(torch.from_numpy(FRAMES)), "epsilon", "contrast")
    fixed = Explain(view_of, "epsilon", expected.q_values.argmax(1).numpy(), {})(network, FRAMES)
    np.testing.assert_allclose(fixed["contrast"].score, expected.score.float().numpy(), rtol=0.01)


def test_the_same_generator_gives_the_same_figures_and_nothing_else_moves():
    network = fresh().train()
    before, state = {name: value.clone() for name, value in network.state_dict().items()}, torch.get_rng_state()
    first, again = (checked(network) for _ in range(2))
    np.testing.assert_equal(first, again)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert network.training
    assert torch.equal(torch.get_rng_state(), state)


def test_a_plain_function_is_checked_but_for_its_layers():
    network = fresh()
    figures = checked(network.forward)
    assert not [check for check in figures if check.startswith(("randomised", "ssim"))]
    assert figures["gain_greedy"] == pytest.approx(checked(network)["gain_greedy"])
    assert "Q-head: cannot tell" in trust(figures)


def test_the_other_composite_is_never_the_one_that_is_judged():
    assert checked(fresh(), method="epsilon_plus")["agreement_greedy"] < 0.999
    assert checked(fresh(), method="epsilon_plus", other="epsilon_plus")["agreement_greedy"] == pytest.approx(1)


def test_the_line_says_what_a_person_needs():
    figures = {
        "randomised_head_greedy": 0.42,
        "randomised_all_greedy": -0.05,
        "action_greedy": 0.96,
        "pointing_moving_greedy": 0.625,
        "chance_moving_greedy": 0.012,
    }
    for target, gain in {"greedy": Gain(0.3, 0.27, 0.33, {}), "contrast": Gain(0.1, -0.02, 0.2, {})}.items():
        figures |= {f"gain_{target}": gain.mean, f"gain_low_{target}": gain.low, f"gain_high_{target}": gain.high}
    assert trust(figures) == (
        "these maps depend on the Q-head: yes (Spearman 0.42 after randomising it, -0.05 after all); "
        "for the value they beat random maps by 30 % (+27 % to +33 %), "
        "for the choice they have no power: random maps do as well, gain +10 % (-2 % to +20 %); "
        "the second-best action's maps are 0.96 alike; "
        "the peak lies on a moving object in 62 % of frames (chance 1 %)"
    )
    assert "Q-head: no" in trust(figures | {"randomised_head_greedy": 0.997})
    assert trust({}) == ""


def test_the_sample_is_one_frame_of_each_segment_and_keeps_what_moves():
    probe = Probe.load("breakout")
    chosen = sample(probe, pixels(probe.masks()))
    assert chosen.masks.keys() == {"ball", "paddle", "moving"}
    assert chosen.frames.shape == (16, 4, 84, 84)
    assert len({frame.tobytes() for frame in chosen.frames}) == 16
    assert len(set(chosen.episode.tolist())) == len(set(probe.episode.tolist()))
    assert (chosen.masks["moving"] == (chosen.masks["ball"] | chosen.masks["paddle"])).all()
    assert (np.abs(chosen.starts["background"].astype(int) - chosen.frames[:, -1]) < 3).mean() > 0.85
    assert not chosen.starts["black"].any()
    assert len(sample(probe, {}, count=1000).frames) == len(probe)
    assert sample(probe, {}).masks == {}


def test_in_pong_the_ball_and_both_players_move():
    probe = Probe.load("pong")
    assert sample(probe, pixels(probe.masks())).masks.keys() == {"ball", "player", "enemy", "moving"}


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_costly_measures_get_room_once_the_budget_holds_them_and_those_of_the_last_checkpoint():
    clock = Clock()
    schedule = Schedule(budget=0.01, clock=clock)
    schedule.pay_costly({"validity": 2.0})
    clock.now = 1499.0
    assert not schedule.room("validity")
    clock.now = 1501.0
    assert schedule.room("validity")
    schedule.pay_costly({"validity": 2.0})
    schedule.pay_costly({})
    assert not schedule.room("validity")
    assert schedule.spent == 4.0


def test_every_costly_part_has_a_purse_of_its_own():
    clock = Clock()
    schedule = Schedule(budget=0.01, clock=clock)
    clock.now = 801.0
    schedule.pay_costly({"validity": 3.0, "actions": 0.1})
    assert not schedule.room("validity")
    assert schedule.room("actions")
    schedule.pay_costly({"actions": 1.0})
    assert not schedule.room("actions")
    assert schedule.spent == 4.1


@pytest.mark.parametrize("total_steps", [40_000, None])
def test_with_costly_measures_the_budget_still_holds_to_the_last_checkpoint(total_steps):
    clock = Clock()
    schedule = Schedule(budget=0.03, total_steps=total_steps, clock=clock)
    made = costly = 0
    for step in range(40_001):
        clock.now += 0.01
        if schedule.due(step) or step == 40_000:
            prices = {"validity": 1.0, "actions": 0.1}
            paid = {part: prices[part] for part in prices if made == 0 or step == 40_000 or schedule.room(part)}
            judged = "validity" in paid
            clock.now += 0.2 + sum(paid.values())
            schedule.pay(step, 0.2)
            schedule.pay_costly(paid)
            made, costly = made + 1, costly + judged
    assert schedule.fraction <= 0.03 * 1.02
    assert made > 15
    assert costly > 3


@pytest.fixture(scope="module")
def breakout():
    return Probe.load("breakout")


def small():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(4, 4, 8, 8), nn.ReLU(), nn.Flatten(), nn.Linear(400, 4))


def logged(folder):
    events = EventAccumulator(str(folder)).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("rlwatch/validity/")]
    return {tag: [event.step for event in events.Scalars(tag)] for tag in tags}


def test_the_first_and_the_last_checkpoint_are_judged_and_those_between_by_the_budget(tmp_path, breakout):
    watching = Watch(small(), breakout, logdir=tmp_path, every=10, method="epsilon")
    first, between, completed, again, last = (
        watching(0),
        watching(10),
        *(watching.finish(step) for step in (10, 10, 15)),
    )
    watching.close()
    assert between.validity == {}
    assert between.trust == ""
    assert completed.targets is between.targets
    assert again is None
    assert first.validity.keys() == completed.validity.keys() == last.validity.keys()
    assert "- trust: these maps depend on the Q-head: " in last.markdown()
    assert last.as_json()["validity"]["gain_greedy"] == last.validity["gain_greedy"]
    steps = logged(tmp_path)
    assert steps["rlwatch/validity/randomised_head_greedy"] == [0, 10, 15]
    assert all(tags.description(tag).count("Explained: ") == 1 for tag in steps)
    assert all("{" not in tags.description(tag) for tag in steps)


def test_where_the_checks_fail_the_checkpoint_is_logged_without_them(tmp_path, breakout, caplog):
    network = small()
    watching = Watch(network, breakout, logdir=tmp_path, every=10, method="epsilon")
    watching(0)
    network.generator = (value for value in ())  # which no copy can be made of
    with caplog.at_level(logging.WARNING, logger="rlwatch"):
        report = watching.finish(10)
        assert watching.finish(10) is None
    watching.close()
    assert report.step == 10
    assert report.validity == {}
    assert "about the validity of the maps (TypeError: the network must be copyable" in caplog.text
