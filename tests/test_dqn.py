"""A training of agents/dqn.py: schedules, seeds, checkpoints, resuming, and what a monitor is told."""

import pytest
import torch

import rlwatch
from agents.dqn import Agent, Config, derived, train, watched
from agents.learner import QNetwork
from agents.parts import Run
from rlwatch.tensorboard.runs import read_run
from tests.fixtures.agents import same, state_of, tiny, trained
from tests.fixtures.saved import beginning

CHECKPOINT = {"model", "step", "game", "actions", "seed", "returns"}


def test_schedules_shrink_with_short_runs_and_are_the_papers_in_long_ones(tmp_path):
    short, long = (derived(Config(steps=steps, logdir=str(tmp_path))) for steps in (40_000, 12_500_000))
    assert (short.learning_starts, short.replay, short.target_every, short.epsilon_steps) == (2000, 40_000, 500, 10_000)
    assert (long.learning_starts, long.replay, long.target_every) == (50_000, 1_000_000, 10_000)
    assert long.epsilon_steps == 250_000
    assert (short.train_every, long.train_every) == (2, 4)
    assert (short.learning_rate, long.learning_rate) == (2.5e-4, 1e-4)
    agent = Agent(tiny(tmp_path, epsilon_steps=100, epsilon_last=0.1))
    epsilons = []
    for agent.step in (0, 50, 100, 900):
        epsilons.append(agent.epsilon)
    assert epsilons == pytest.approx([1, 0.55, 0.1, 0.1])


@pytest.mark.real
@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_seed_gives_the_same_weights_bit_for_bit(tmp_path, threads):
    first, second = (trained(tmp_path / name, threads=threads) for name in "ab")
    other = trained(tmp_path / "c", threads=threads, seed=2)
    assert same(state_of(first), state_of(second))
    assert first.rng.bit_generator.state == second.rng.bit_generator.state
    assert not same(state_of(first), state_of(other))


@pytest.mark.real
def test_a_run_of_a_few_steps_ends_as_any_other(tmp_path):
    agent = trained(tmp_path, steps=24, learning_starts=1)
    assert agent.step == 24
    assert agent.learner.optimizer.state_dict()["state"][0]["step"] == 1


@pytest.mark.real
def test_evaluating_repeats_itself_and_leaves_the_training_untouched(tmp_path):
    agent = Agent(tiny(tmp_path, evaluation_games=2))
    before = agent.rng.bit_generator.state, torch.get_rng_state()
    assert agent.evaluate() == agent.evaluate()
    assert agent.rng.bit_generator.state == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


@pytest.mark.real
def test_a_stopped_run_resumes_where_it_stood_and_reaches_its_last_step(tmp_path):
    agent = Agent(tiny(tmp_path))
    train(agent, stopped=lambda: agent.step >= 60)
    agent.run.close()
    again = Agent.resumed(tmp_path, {})
    assert again.step == 60
    assert again.epsilon == agent.epsilon
    assert same(state_of(again), state_of(agent))
    assert (
        again.learner.optimizer.state_dict()["state"][0]["step"]
        == agent.learner.optimizer.state_dict()["state"][0]["step"]
        == 7
    )
    assert again.rng.bit_generator.state == agent.rng.bit_generator.state
    train(again)
    again.run.close()
    assert again.step == 96
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        f"step_{step:09d}.pt" for step in (0, 48, 60, 96)
    ]


@pytest.mark.real
def test_a_checkpoint_holds_plain_values_and_the_networks_weights(tmp_path):
    agent = trained(tmp_path)
    saved = torch.load(tmp_path / "checkpoints/step_000000096.pt", weights_only=True)
    assert set(saved) == CHECKPOINT
    assert (saved["step"], saved["game"], saved["seed"]) == (96, "breakout", 1)
    assert saved["actions"] == ["NOOP", "FIRE", "RIGHT", "LEFT"]
    assert saved["returns"] == agent.returns
    network = QNetwork(4)
    network.load_state_dict(saved["model"])
    assert same(list(network.parameters()), list(agent.q_network.parameters()))


@pytest.mark.real
def test_a_resumed_run_goes_on_with_what_its_monitor_knew(tmp_path):
    agent, probe = Agent(tiny(tmp_path)), beginning(rlwatch.Probe.load("breakout"), segments=2)
    watch = watched(agent, probe)
    train(agent, watch, stopped=lambda: agent.step >= 60)
    watch.finish(agent.step)
    watch.close()
    agent.run.close()
    again = Agent.resumed(tmp_path, {})
    watch = watched(again, probe)
    assert watch(again.step) is None
    assert watch(again.step + 4).step == 64
    watch.close()
    again.run.close()
    assert watch._place._logbook._examination.comparison._steps == [0, 60, 64]


def test_the_options_of_a_run_stand_in_its_own_row_of_the_hparams_tab(tmp_path):
    run = Run(str(tmp_path), 0)
    run.describe(Config(seed=3), ["eval/return"])
    run.close()
    assert len(list(tmp_path.iterdir())) == 1
    assert read_run(tmp_path).hparams["seed"] == 3


class Recorder:
    """A monitor that notes what it is told."""

    finding = "a finding"

    def __init__(self):
        self.steps, self.told, self.finished = [], [], []

    def __call__(self, step):
        self.steps.append(step)

    def returns(self, step, value):
        self.told.append((step, value))

    def finish(self, step):
        self.finished.append(step)


@pytest.mark.real
def test_a_monitor_sees_every_step_and_every_evaluation_and_is_finished_once(tmp_path, capsys):
    agent, watch = Agent(tiny(tmp_path)), Recorder()
    train(agent, watch)
    agent.run.close()
    assert watch.steps == list(range(0, 96, 4))
    assert [step for step, _ in watch.told] == [0, 48, 96]
    assert watch.told[-1][1] == agent.returns
    assert watch.finished == [96]
    assert "a finding" in capsys.readouterr().out


@pytest.mark.real
def test_a_run_is_resumed_only_as_what_it_is(tmp_path):
    trained(tmp_path)
    with pytest.raises(ValueError, match="--game breakout, got pong"):
        Agent.resumed(tmp_path, {"game": "pong"})
    with pytest.raises(ValueError, match="--steps must exceed the 96"):
        Agent.resumed(tmp_path, {"game": "ALE/Breakout-v5"})
    with pytest.raises(ValueError, match="holds a run: go on with --resume"):
        Agent(tiny(tmp_path))
    whole = (tmp_path / "resume.pt").read_bytes()
    (tmp_path / "resume.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged or foreign"):
        Agent.resumed(tmp_path, {})
