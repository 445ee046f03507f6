"""Short trainings in the manner of CleanRL: one network, one loop, nothing hidden; with the one line that watches.

Networks name their layers as CleanRL's do, so what these loops save is what `rlwatch explain` meets.
"""

import random
from collections import deque

import ale_py
import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch program uses
from torch import nn

from rlwatch import Watch
from rlwatch.unwrap import Read

gym.register_envs(ale_py)
GAMMA, BATCH, ATOMS, V_MIN, V_MAX = 0.99, 8, 51, -10.0, 10.0


def make_env():
    env = gym.wrappers.AtariPreprocessing(gym.make("ALE/Breakout-v5", frameskip=1))
    return gym.wrappers.FrameStackObservation(env, 4)


def convolutions():
    return [nn.Conv2d(4, 32, 8, stride=4), nn.Conv2d(32, 64, 4, stride=2), nn.Conv2d(64, 64, 3, stride=1)]


def rectified(layers):
    return [module for layer in layers for module in (layer, nn.ReLU())]


class QNetwork(nn.Module):
    """DQN's."""

    def __init__(self, actions=4):
        super().__init__()
        head = [nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, actions)]
        self.network = nn.Sequential(*rectified(convolutions()), *head)

    def forward(self, x):
        return self.network(x / 255.0)


class C51Network(nn.Module):
    """C51's: it has no forward, `get_action` is what the loop calls."""

    def __init__(self, actions=4):
        super().__init__()
        self.n, self.n_atoms = actions, ATOMS
        self.register_buffer("atoms", torch.linspace(V_MIN, V_MAX, steps=ATOMS))
        head = [nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, actions * ATOMS)]
        self.network = nn.Sequential(*rectified(convolutions()), *head)

    def get_action(self, x, action=None):
        logits = self.network(x / 255.0)
        pmfs = torch.softmax(logits.view(len(x), self.n, self.n_atoms), dim=2)
        q_values = (pmfs * self.atoms).sum(2)
        if action is None:
            action = torch.argmax(q_values, 1)
        return action, pmfs[torch.arange(len(x)), action]


class NoisyLinear(nn.Module):
    """A linear layer with factorised noise that `reset_noise` draws; without noise in evaluation."""

    def __init__(self, inputs, outputs, std=0.5):
        super().__init__()
        bound = inputs**-0.5
        self.weight_mu = nn.Parameter(torch.empty(outputs, inputs).uniform_(-bound, bound))
        self.weight_sigma = nn.Parameter(torch.full((outputs, inputs), std * bound))
        self.register_buffer("weight_epsilon", torch.zeros(outputs, inputs))
        self.bias_mu = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))
        self.bias_sigma = nn.Parameter(torch.full((outputs,), std * outputs**-0.5))
        self.register_buffer("bias_epsilon", torch.zeros(outputs))
        self.reset_noise()

    def reset_noise(self):
        rows, columns = (torch.randn(size) for size in self.weight_mu.shape)
        rows, columns = (noise.sign() * noise.abs().sqrt() for noise in (rows, columns))
        self.weight_epsilon.copy_(torch.outer(rows, columns))
        self.bias_epsilon.copy_(rows)

    def forward(self, x):
        if not self.training:
            return F.linear(x, self.weight_mu, self.bias_mu)
        weight = self.weight_mu + self.weight_sigma * self.weight_epsilon
        return F.linear(x, weight, self.bias_mu + self.bias_sigma * self.bias_epsilon)


class RainbowNetwork(nn.Module):
    """Rainbow's: dueling, noisy, distributional; it returns the distributions."""

    def __init__(self, actions=4):
        super().__init__()
        self.n_actions, self.n_atoms = actions, ATOMS
        self.register_buffer("support", torch.linspace(V_MIN, V_MAX, ATOMS))
        self.network = nn.Sequential(*rectified(convolutions()), nn.Flatten())
        self.value_head = nn.Sequential(NoisyLinear(3136, 512), nn.ReLU(), NoisyLinear(512, ATOMS))
        self.advantage_head = nn.Sequential(NoisyLinear(3136, 512), nn.ReLU(), NoisyLinear(512, actions * ATOMS))

    def forward(self, x):
        h = self.network(x / 255.0)
        value = self.value_head(h).view(-1, 1, self.n_atoms)
        advantage = self.advantage_head(h).view(-1, self.n_actions, self.n_atoms)
        q_atoms = value + advantage - advantage.mean(dim=1, keepdim=True)
        return F.softmax(q_atoms, dim=2)


class PQNNetwork(nn.Module):
    """PQN's: a layer norm behind each layer."""

    def __init__(self, actions=4):
        super().__init__()
        shapes = ([32, 20, 20], [64, 9, 9], [64, 7, 7])
        normed = zip(convolutions(), shapes, strict=True)
        body = [module for conv, shape in normed for module in (conv, nn.LayerNorm(shape), nn.ReLU())]
        head = [nn.Flatten(), nn.Linear(3136, 512), nn.LayerNorm(512), nn.ReLU(), nn.Linear(512, actions)]
        self.network = nn.Sequential(*body, *head)

    def forward(self, x):
        return self.network(x / 255.0)


def c51_values(network, x):
    logits = network.network(x / 255.0)
    return (torch.softmax(logits.view(len(x), network.n, network.n_atoms), dim=2) * network.atoms).sum(2)


def rainbow_values(network, x):
    return (network(x) * network.support).sum(2)


def sample(buffer):
    obs, actions, rewards, next_obs, dones = zip(*random.sample(buffer, BATCH), strict=True)
    stacks = (torch.Tensor(np.array(frames)) for frames in (obs, next_obs))
    return *stacks, torch.tensor(actions), torch.tensor(rewards).float(), torch.tensor(dones).float()


def projected(pmfs, rewards, dones, support):
    """The distribution of r + γ·z on the atoms. Source: Bellemare et al. 2017, arXiv 1707.06887, algorithm 1."""
    delta = support[1] - support[0]
    goal = (rewards[:, None] + GAMMA * support * (1 - dones[:, None])).clamp(V_MIN, V_MAX)
    places = (1 - ((goal[:, :, None] - support) / delta).abs()).clamp(min=0)
    return (pmfs[:, :, None] * places).sum(1)


def dqn_loss(q_network, target_network, batch):
    obs, next_obs, actions, rewards, dones = batch
    with torch.no_grad():
        td_target = rewards + GAMMA * target_network(next_obs).max(1).values * (1 - dones)
    return F.mse_loss(td_target, q_network(obs).gather(1, actions[:, None]).squeeze(1))


def c51_loss(q_network, target_network, batch):
    obs, next_obs, actions, rewards, dones = batch
    with torch.no_grad():
        _, next_pmfs = target_network.get_action(next_obs)
        goal = projected(next_pmfs, rewards, dones, target_network.atoms)
    _, pmfs = q_network.get_action(obs, actions)
    return -(goal * pmfs.clamp(1e-5, 1 - 1e-5).log()).sum(1).mean()


def rainbow_loss(q_network, target_network, batch):
    obs, next_obs, actions, rewards, dones = batch
    rows = torch.arange(len(obs))
    with torch.no_grad():
        best = rainbow_values(q_network, next_obs).argmax(1)
        goal = projected(target_network(next_obs)[rows, best], rewards, dones, target_network.support)
    return -(goal * q_network(obs)[rows, actions].clamp(1e-8).log()).sum(1).mean()


OFF_POLICY = {
    "dqn": (QNetwork, dqn_loss, lambda network: network),
    "c51": (C51Network, c51_loss, lambda network: Read(network, c51_values)),
    "rainbow": (RainbowNetwork, rainbow_loss, lambda network: Read(network, rainbow_values)),
}


def train_off_policy(name, logdir, steps, **settings):
    """DQN, C51 or Rainbow, with a replay buffer and a target network."""
    make, loss_of, values = OFF_POLICY[name]
    random.seed(1)
    torch.manual_seed(1)
    env, buffer, rng = make_env(), deque(maxlen=500), np.random.default_rng(1)
    q_network, target_network = make(), make()
    target_network.load_state_dict(q_network.state_dict())
    optimizer = torch.optim.Adam(q_network.parameters(), lr=1e-4)
    watch = Watch(values(q_network), logdir=logdir, **settings)

    obs, _ = env.reset(seed=1)
    for global_step in range(steps):
        watch(global_step)  # the one line
        action = int(rng.integers(4))
        if rng.random() > 1 - 0.9 * global_step / steps:
            action = int(values(q_network)(torch.Tensor(obs[None])).argmax())
        next_obs, reward, terminated, truncated, _ = env.step(action)
        buffer.append((obs, action, float(reward), next_obs, terminated))
        obs = env.reset()[0] if terminated or truncated else next_obs
        if global_step > 50 and global_step % 8 == 0:
            loss = loss_of(q_network, target_network, sample(buffer))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if global_step % 100 == 0:
            target_network.load_state_dict(q_network.state_dict())
    watch.finish(steps)
    watch.close()
    return q_network


def train_pqn(logdir, steps, **settings):
    """PQN: several games side by side, no replay, no target network; the step counts all games."""
    torch.manual_seed(1)
    envs = gym.vector.SyncVectorEnv([make_env] * 4)
    q_network, rng = PQNNetwork(), np.random.default_rng(1)
    optimizer = torch.optim.RAdam(q_network.parameters(), lr=1e-4)
    watch = Watch(q_network, logdir=logdir, **settings)

    obs, global_step = torch.Tensor(envs.reset(seed=1)[0]), 0
    while global_step < steps:
        watch(global_step)  # the one line
        rollout = []
        for _ in range(8):
            with torch.no_grad():
                greedy = q_network(obs).argmax(1).numpy()
            actions = np.where(rng.random(4) < 0.3, rng.integers(0, 4, 4), greedy)
            next_obs, rewards, terminated, _, _ = envs.step(actions)
            rollout.append((obs, torch.from_numpy(actions), rewards, terminated))
            obs, global_step = torch.Tensor(next_obs), global_step + 4
        with torch.no_grad():
            returns = q_network(obs).max(1).values
        for seen, actions, rewards, terminated in reversed(rollout):
            returns = torch.from_numpy(rewards).float() + GAMMA * returns * (1 - torch.from_numpy(terminated).float())
            loss = F.mse_loss(q_network(seen).gather(1, actions[:, None]).squeeze(1), returns)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    watch.finish(global_step)
    watch.close()
    return q_network
