import collections
import signal
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
import torch
from ale_py import AtariEnv
from torch.nn.functional import conv2d, linear

import rlwatch
from agents.dqn import Agent, Batch, Config, Games, Played, QNetwork, Replay, derived, main, td_loss, train, watched

CHECKPOINT = {"model", "step", "game", "actions", "seed", "returns"}


@pytest.fixture(autouse=True)
def _one_thread():
    """As in a run: PyTorch's own threads wait for one another at every operator."""
    torch.set_num_threads(1)


def no_preference(stacks):
    return torch.zeros(len(stacks), 4)


def tiny(folder, **changes):
    """A run of a few seconds that learns, changes its target network and saves two checkpoints."""
    settings = {
        "steps": 96,
        "envs": 4,
        "train_every": 4,
        "batch": 8,
        "learning_starts": 32,
        "target_every": 24,
        "checkpoint_every": 48,
        "evaluation_games": 1,
        "evaluation_frames": 120,
        "threads": 1,
    }
    return derived(Config(logdir=str(folder), **(settings | changes)))


def trained(folder, **changes):
    agent = Agent(tiny(folder, **changes))
    train(agent)
    agent.run.close()
    return agent


def played(reward, done):
    return Played(np.asarray(reward, np.float32), np.asarray(done), {})


def state_of(agent):
    """Everything that training changes, as one list of tensors."""
    networks = [*agent.q_network.parameters(), *agent.target_network.parameters()]
    moments = [value for each in agent.optimizer.state.values() for value in each.values()]
    return [*(p.detach() for p in networks), *moments]


def same(left, right):
    return len(left) == len(right) and all(map(torch.equal, left, right))


class Streams:
    """Games whose frames are numbered, with the stacks that a player would have seen kept in full."""

    def __init__(self, games, rng):
        self.rng, self.games, self.number, self.first = rng, games, 0, np.ones(games, bool)
        self.stacks = [collections.deque([0] * 4, 4) for _ in range(games)]
        self.rows = []

    def step(self, replay):
        numbers = np.arange(self.number + 1, self.number + 1 + self.games)
        self.number += self.games
        for stack, number, first in zip(self.stacks, numbers, self.first, strict=True):
            if first:
                stack.extend([0] * 4)
            stack.append(int(number))
        frames = np.zeros((self.games, 84, 84), np.uint8)
        frames.reshape(self.games, -1)[:, :2] = np.stack([numbers // 256, numbers % 256], 1)
        actions, rewards = self.rng.integers(4, size=self.games), self.rng.normal(size=self.games).astype(np.float32)
        done = self.rng.random(self.games) < 0.2
        replay.add(frames, self.first, actions, played(rewards, done))
        self.rows.append((list(map(tuple, self.stacks)), actions, rewards, done, self.first))
        self.first = self.rng.random(self.games) < 0.15

    def transitions(self, oldest):
        """All transitions from row `oldest` on that do not lead into another game."""
        for now, after in zip(self.rows[oldest:-1], self.rows[oldest + 1 :], strict=True):
            for game in range(self.games):
                if not after[4][game]:
                    stack, next_stack = now[0][game], after[0][game]
                    yield stack, next_stack, int(now[1][game]), float(now[2][game]), float(now[3][game])


def seen_in(batch):
    pixels = batch.frames.flatten(2)[:, :, :2].int()
    numbers = (pixels[..., 0] * 256 + pixels[..., 1]).tolist()
    rest = zip(batch.actions.tolist(), batch.rewards.tolist(), batch.done.tolist(), strict=True)
    return {(tuple(five[:4]), tuple(five[1:]), *each) for five, each in zip(numbers, rest, strict=True)}


@pytest.mark.parametrize(("games", "steps"), [(1, 9), (3, 12), (3, 16), (3, 61), (2, 40)])
def test_replay_draws_exactly_the_transitions_that_a_list_of_whole_stacks_holds(games, steps):
    streams, replay = Streams(games, np.random.default_rng(steps)), Replay(16 * games, games)
    for _ in range(steps):
        streams.step(replay)
    full = steps >= 16
    expected = set(streams.transitions(steps - 16 + 3 if full else 0))
    assert seen_in(replay.sample(3000, np.random.default_rng(0))) == expected


@pytest.mark.real
def test_replay_gives_back_the_stacks_that_real_games_showed_across_their_ends(tmp_path):
    config = tiny(tmp_path, envs=3)
    games, replay, rng = Games(config, 3, 0, threads=1), Replay(3 * 400, 3), np.random.default_rng(0)
    shown, ended = {}, 0
    for _ in range(380):
        stacks = games.stacks.copy()
        seen, first, actions = games.choose(no_preference, 1.0, rng)
        games.env.send(actions)
        came = games.receive()
        replay.add(seen, first, actions, came)
        ended += len(came.returns)
        for game in range(3):
            whole = np.concatenate([stacks[game], games.stacks[game, -1:]]).tobytes()
            shown[whole, int(actions[game]), float(came.reward[game]), float(came.done[game])] = bool(games.first[game])
    assert ended >= 3
    for _ in range(20):
        batch = replay.sample(100, rng)
        for five, *rest in zip(*(column.numpy() for column in batch), strict=True):
            assert shown[(five.tobytes(), *(each.item() for each in rest))] is False


def test_a_replay_says_nothing_about_a_game_before_it_began():
    replay = Replay(64, 1)
    for number in range(1, 9):
        frame = np.full((1, 84, 84), number, np.uint8)
        replay.add(frame, np.array([number in {1, 5}]), np.zeros(1, int), played([0], [False]))
    found = {tuple(five) for five in replay.sample(200, np.random.default_rng(0)).frames[:, :, 0, 0].tolist()}
    assert found == {
        (0, 0, 0, 1, 2),
        (0, 0, 1, 2, 3),
        (0, 1, 2, 3, 4),
        (0, 0, 0, 5, 6),
        (0, 0, 5, 6, 7),
        (0, 5, 6, 7, 8),
    }


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


def gymnasium_plays(game, no_ops, actions):
    """Frames and rewards of gymnasium's own preprocessing, begun as ALE's vector environment begins a game."""
    raw = AtariEnv(game, frameskip=1, repeat_action_probability=0.0)
    env = gymnasium.wrappers.AtariPreprocessing(raw, noop_max=0, frame_skip=4)
    env.reset(seed=0)
    meanings = raw.get_action_meanings()
    for action in [*([meanings.index("FIRE")] if "FIRE" in meanings else []), *[0] * no_ops]:
        raw.step(action)
    for action in actions:
        yield env.step(int(action))[:2]


@pytest.mark.real
@pytest.mark.parametrize("game", ["breakout", "ms_pacman"])
def test_frames_and_scores_are_those_of_gymnasiums_preprocessing(game, tmp_path):
    games = Games(tiny(tmp_path, game=game), 1, seed=3, threads=1)
    actions = np.random.default_rng(0).integers(len(games.meanings), size=150)
    frames, scores = [], []
    for action in actions:
        games.env.send(np.array([action]))
        games.receive()
        frames.append(games.stacks[0, -1].copy())
        scores.append(games.score[0])
    assert not games.over[0]
    assert scores[-1] > 0

    def agrees(no_ops):
        theirs = gymnasium_plays(game, no_ops, actions[:20])
        return all(np.array_equal(frame, ours) for (frame, _), ours in zip(theirs, frames[:20], strict=True))

    no_ops = next(count for count in range(30) if agrees(count))
    their_frames, their_rewards = zip(*gymnasium_plays(game, no_ops, actions), strict=True)
    np.testing.assert_array_equal(frames, their_frames)
    np.testing.assert_array_equal(scores, np.cumsum(their_rewards))


@pytest.mark.real
def test_losing_a_life_ends_an_episode_but_not_the_game_and_fire_follows(tmp_path):
    games, rng, lives = Games(tiny(tmp_path), 1, seed=0, threads=1), np.random.default_rng(0), []
    while not games.over[0]:
        actions = games.choose(no_preference, 1.0, rng)[2]
        fired = games.lost[0]
        assert not fired or games.meanings[actions[0]] == "FIRE"
        games.env.send(actions)
        came = games.receive()
        if came.done[0]:
            lives.append((int(games.lives[0]), bool(games.over[0])))
            assert not games.first[0]
    assert lives == [(4, False), (3, False), (2, False), (1, False), (0, True)]
    assert list(came.returns) == [0]


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
    assert agent.optimizer.state_dict()["state"][0]["step"] == 1


@pytest.mark.real
def test_the_threads_shares_add_up_to_the_gradient_of_the_whole_batch(tmp_path):
    agents = [Agent(tiny(tmp_path / str(n), threads=n, precision="fp32", batch=7)) for n in (1, 3)]
    streams, replay = Streams(2, np.random.default_rng(0)), Replay(64, 2)
    for _ in range(20):
        streams.step(replay)
    told = [agent.learn(replay) for agent in agents]
    torch.testing.assert_close(*told)
    for whole, shared in zip(*(agent.q_network.parameters() for agent in agents), strict=True):
        torch.testing.assert_close(whole.grad, shared.grad, rtol=1e-4, atol=1e-7)


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
    assert again.optimizer.state_dict()["state"][0]["step"] == agent.optimizer.state_dict()["state"][0]["step"] == 7
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
    agent = Agent(tiny(tmp_path))
    watch = watched(agent, rlwatch.Probe.load("breakout"))
    train(agent, watch, stopped=lambda: agent.step >= 60)
    watch.finish(agent.step)
    watch.close()
    agent.run.close()
    again = Agent.resumed(tmp_path, {})
    watch = watched(again, rlwatch.Probe.load("breakout"))
    assert watch(again.step) is None
    assert watch(again.step + 4).step == 64
    watch.close()
    again.run.close()
    assert watch._place._logbook._examination.comparison._steps == [0, 60, 64]


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


def program(folder, *options, before=""):
    """The program as its own process; `before` is run first."""
    tail = [f"--{name.replace('_', '-')}={value}" for name, value in vars(tiny(folder)).items() if name != "steps"]
    code = f"{before}\nimport sys\nfrom agents.dqn import main\nsys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "--no-watch", *tail, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.real
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_a_run_that_resumes(tmp_path, signum, status, capsys):
    folder = tmp_path / "run"
    with program(folder, "--steps=100000") as process:
        for line in process.stdout:
            if "a replay of" in line:
                break
        while not (folder / "resume.pt").exists():
            assert process.poll() is None
        process.send_signal(signum)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == status
    assert f"--resume {folder}" in out
    step = torch.load(folder / "resume.pt", weights_only=True)["step"]
    assert main(["--no-watch", "--resume", str(folder), "--steps", str(step + 8)]) == 0
    assert f"step {step + 8:,}" in capsys.readouterr().out


@pytest.mark.real
def test_a_full_disk_is_told_once_and_training_goes_on(tmp_path):
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))"
    with program(tmp_path / "run", "--steps=96", before=limit) as process:
        out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert errors.count("a checkpoint cannot be written") == 1
    assert "step 96" in out
    assert not list((tmp_path / "run").rglob("*.p*t*"))


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (["--game", "brekout"], "did you mean breakout"),
        (["--game", "ALE/Brekout-v5"], "did you mean breakout"),
        (["--steps", "0"], "--steps must be at least 1, got 0"),
        (["--precision", "fp8"], "bf16"),
        (["--gamma", "2"], "--gamma must lie between 0 and 1, got 2.0"),
        (["--epsilon-last", "3"], "--epsilon-last must lie between 0 and 1, got 3.0"),
        (["--sticky", "7"], "--sticky must lie between 0 and 1, got 7.0"),
        (["--train-every", "-1"], "--train-every must be at least 0, got -1"),
        (["--checkpoint-every", "-5"], "--checkpoint-every must be at least 0, got -5"),
        (["--evaluation-frames", "0"], "--evaluation-frames must be at least 1, got 0"),
        (["--threads", "-1"], "--threads must be at least 0, got -1"),
        (["--learning-rate", "-1"], "--learning-rate must be at least 0, got -1"),
        (["--learning-rate", "nan"], "--learning-rate must be at least 0, got nan"),
        (["--watch-budget", "2"], "at most 1, got 2: 0.01 is 1 %"),
        (["--probe", "nowhere.npz"], "nowhere.npz"),
        (["--probe", "pong"], "--probe must be of breakout, got one of pong"),
        (["--seed", "-1"], "--seed must be"),
        (["--resume", "nowhere"], "start a new run"),
        (["--logdir", "{file}/run"], "choose another"),
    ],
)
def test_wrong_options_are_refused_with_a_remedy(tmp_path, options, remedy, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        main(["--logdir", str(tmp_path / "run"), *(o.format(file=tmp_path / "file") for o in options)])
    assert stop.value.code == 2
    assert remedy in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


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


@pytest.mark.parametrize("name", ["ms_pacman", "MsPacman", "ALE/MsPacman-v5", "MsPacmanNoFrameskip-v4", "ms-pacman"])
def test_a_game_goes_by_any_of_its_names(name, tmp_path):
    assert tiny(tmp_path, game=name).game == "ms_pacman"
