"""Checkpoints that the frameworks themselves have saved, read offline: the same Q-values on real frames."""

import pfrl
import pytest
import torch
from sb3_contrib import QRDQN
from stable_baselines3 import DQN
from tensordict import TensorDict
from tianshou.algorithm.modelfree.c51 import C51, C51Policy
from tianshou.algorithm.modelfree.fqf import FQF, FQFPolicy
from tianshou.algorithm.modelfree.iqn import IQN, IQNPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Batch
from tianshou.env.atari.atari_network import DQNet, RainbowNet, ScaledObsInputActionReprNet
from tianshou.utils.net.discrete import FractionProposalNetwork, FullQuantileFunction, ImplicitQuantileNetwork
from torchrl.modules import MLP, ConvNet, QValueActor

from rlwatch import explain
from rlwatch.adapters import d3rlpy as d3rlpy_adapter
from rlwatch.adapters import rllib as rllib_adapter
from rlwatch.checkpoints import load, placed_files
from rlwatch.monitor.matching import matched
from tests.frameworks import test_d3rlpy, test_pfrl, test_rllib, test_tianshou, test_torchrl
from tests.frameworks import test_stable_baselines3 as stable
from tests.frameworks.events import small

BOUND = 1e-6
FRAMES = torch.from_numpy(small("breakout").observations()[::8])


def grown(network, gain=2):
    """The network with weights by which Q-values differ by more than the bound."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.mul_(gain).add_(torch.randn_like(parameter) * 0.02)
    return network.eval()


def check(path, expected, **told):
    """The network of the file gives these Q-values, which tell frames and actions apart."""
    expected = expected.detach()
    assert expected.std(0).min() > 100 * BOUND
    assert expected.std(1).min() > 100 * BOUND
    saved = load(path, **told)
    with torch.no_grad():
        difference = (saved.network(FRAMES) - expected).abs().max() / max(expected.abs().max(), 1.0)
    assert difference <= BOUND
    return saved


@pytest.mark.parametrize(("kind", "name"), [(DQN, "q_net"), (QRDQN, "quantile_net")])
def test_saved_by_stable_baselines3(tmp_path, kind, name):
    learner = stable.model(kind)
    network = grown(getattr(learner, name))
    learner.num_timesteps = 1234
    learner.save(tmp_path / "model.zip")
    expected = network(FRAMES) if kind is DQN else network(FRAMES).mean(1)
    saved = check(tmp_path / "model.zip", expected)
    assert saved.step == 1234
    torch.save(learner.policy.state_dict(), tmp_path / "policy.pth")
    check(tmp_path / "policy.pth", expected, actions=4)


@pytest.mark.parametrize("name", test_tianshou.KINDS)
def test_saved_by_tianshou(tmp_path, name):
    algorithm = test_tianshou.algorithm(name)
    policy = grown(algorithm.policy, gain=1)  # it takes numbers up to 255
    torch.save({"model": algorithm.state_dict()}, tmp_path / "policy.pth")
    expected = policy.compute_q_value(policy.model(FRAMES.float())[0], None)
    check(tmp_path / "policy.pth", expected)


@pytest.mark.parametrize("kind", ["IQN", "FQF"])
@pytest.mark.parametrize("hidden", [(), (64,)])
def test_saved_by_tianshou_with_fractions(tmp_path, monkeypatch, kind, hidden):
    """IQN's fractions, which it draws at random, are put at the middles of 32 equal parts; FQF's are its own."""
    body = DQNet(**test_tianshou.SHAPE, action_shape=4, features_only=True, output_dim_added_layer=128)
    settings = {"preprocess_net": body, "action_shape": [4], "hidden_sizes": hidden}
    space = test_tianshou.gymnasium.spaces.Discrete(4)
    optim = AdamOptimizerFactory(lr=1e-4)
    if kind == "IQN":
        policy = IQNPolicy(model=ImplicitQuantileNetwork(**settings), action_space=space)
        algorithm = IQN(policy=policy, optim=optim)
    else:
        proposal = FractionProposalNetwork(16, body.output_dim)
        policy = FQFPolicy(model=FullQuantileFunction(**settings), fraction_model=proposal, action_space=space)
        algorithm = FQF(policy=policy, optim=optim, fraction_optim=optim)
    grown(policy.model, gain=1)
    middles = (torch.arange(32) + 0.5) / 32
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: middles.expand(*shape))
    batch = Batch(obs=FRAMES.float(), info={})
    policy.eval()
    said = policy(batch)
    weights = torch.full((1, 32), 1 / 32) if kind == "IQN" else said.fractions.taus.diff(dim=1)
    monkeypatch.undo()
    torch.save({"model": algorithm.state_dict()}, tmp_path / "policy.pth")
    saved = check(tmp_path / "policy.pth", (said.logits * weights[:, None]).sum(2), actions=4)
    explanation = explain(saved.network, FRAMES[:2])
    assert torch.allclose(explanation.relevance.sum((1, 2, 3)) + explanation.absorbed, explanation.score, rtol=1e-3)


def test_saved_by_tianshou_with_a_rainbow_network_that_scales_its_input(tmp_path):
    network = ScaledObsInputActionReprNet(RainbowNet(**test_tianshou.SHAPE, action_shape=[4]))
    policy = C51Policy(model=network, action_space=test_tianshou.gymnasium.spaces.Discrete(4))
    algorithm = C51(policy=policy, optim=AdamOptimizerFactory(lr=1e-4), target_update_freq=50)
    grown(policy)
    torch.save(algorithm.state_dict(), tmp_path / "policy.pth")
    check(tmp_path / "policy.pth", policy.compute_q_value(network(FRAMES.float())[0], None))


@pytest.mark.parametrize("name", test_pfrl.HEADS)
@pytest.mark.parametrize("noisy", [False, True])
def test_saved_by_pfrl(tmp_path, name, noisy):
    agent = test_pfrl.agent(name)
    if noisy:
        pfrl.nn.to_factorized_noisy(agent.model, sigma_scale=0)
    grown(agent.model)
    agent.save(str(tmp_path / "1000_finish"))
    (path,) = (one.path for one in placed_files([tmp_path]))
    if noisy:
        silent(agent.model)
    saved = check(path, agent.model(FRAMES.float() / 255).q_values, actions=4)
    assert saved.step == 1000


def silent(network):
    """Takes the noise out of pfrl's noisy layers, which have no mode without it."""
    for module in network.modules():
        if isinstance(module, pfrl.nn.FactorizedNoisyLinear):
            torch.nn.init.zeros_(module.sigma.weight)
            torch.nn.init.zeros_(module.sigma.bias)


def test_saved_by_pfrl_with_its_sequential_network(tmp_path):
    head = pfrl.q_functions.DiscreteActionValueHead()
    network = grown(torch.nn.Sequential(pfrl.nn.LargeAtariCNN(), torch.nn.Linear(512, 4), head))
    torch.save(network.state_dict(), tmp_path / "model.pt")
    check(tmp_path / "model.pt", network(FRAMES.float() / 255).q_values)


@pytest.mark.parametrize("critics", [1, 2])
@pytest.mark.parametrize("name", test_d3rlpy.FACTORIES)
def test_saved_by_d3rlpy(tmp_path, name, critics):
    algorithm = test_d3rlpy.dqn(name, critics)
    algorithm.build_with_env(test_d3rlpy.breakout())
    grown(algorithm.impl.q_function)
    algorithm.save(str(tmp_path / "model_100.d3"))
    algorithm.save_model(str(tmp_path / "model_100.pt"))
    expected = d3rlpy_adapter.q_network(algorithm)(FRAMES / 255)
    check(tmp_path / "model_100.d3", expected)
    head = "quantiles" if name == "quantiles" else ""
    check(tmp_path / "model_100.pt", expected, actions=4, head=head)


class Loop(torch.nn.Module):
    """The network of a loop in TorchRL: convolutions and a perceptron, with ReLU."""

    def __init__(self, outputs):
        super().__init__()
        cells = {"num_cells": [32, 64, 64], "kernel_sizes": [8, 4, 3], "strides": [4, 2, 1]}
        self.cnn = ConvNet(activation_class=torch.nn.ReLU, in_features=4, **cells)
        self.mlp = MLP(in_features=3136, activation_class=torch.nn.ReLU, out_features=outputs, num_cells=[64])

    def forward(self, x):
        return self.mlp(self.cnn(x))


def test_saved_by_torchrl(tmp_path):
    spec = test_torchrl.breakout().action_spec
    for name, network in {"loop": Loop(4), "dueling": test_torchrl.dueling()}.items():
        actor = QValueActor(network, in_keys=["pixels"], spec=spec)
        observed = TensorDict({"pixels": FRAMES / 255}, [len(FRAMES)])
        actor(observed)
        grown(actor)
        torch.save(actor.state_dict(), tmp_path / f"{name}.pt")
        check(tmp_path / f"{name}.pt", actor(observed)["action_value"])


@pytest.fixture(scope="module")
def _ray():
    test_rllib.register_env("breakout", test_rllib.breakout)
    test_rllib.ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    test_rllib.ray.shutdown()


@pytest.mark.usefixtures("_ray")
@pytest.mark.parametrize("training", [{}, {"num_atoms": 21, "v_min": -10.0, "v_max": 10.0}, {"dueling": False}])
def test_saved_by_rllib(tmp_path, training):
    algorithm = test_rllib.config(**training).build_algo()
    module = grown(algorithm.learner_group._learner.module["default_policy"])
    algorithm.save_to_path(str(tmp_path / "checkpoint_000010"))
    (path,) = (one.path for one in placed_files([tmp_path]))
    saved = check(path, rllib_adapter.q_network(module)(FRAMES), actions=4)
    assert saved.step == 10
    algorithm.stop()


@pytest.mark.usefixtures("_ray")
@pytest.mark.parametrize(("framestack", "side"), [(4, 64), (None, 64), (4, 42)])
def test_saved_by_rllib_with_its_own_filters_for_other_sizes(tmp_path, framestack, side):
    """In float64: its kernels of 11 pixels sum up so many numbers that float32 alone differs by more than the bound."""
    algorithm = test_rllib.config(dim=side, framestack=framestack, model={}).build_algo()
    module = grown(algorithm.learner_group._learner.module["default_policy"], gain=1)
    algorithm.save_to_path(str(tmp_path / "checkpoint_000010"))
    (path,) = (one.path for one in placed_files([tmp_path]))
    frames = torch.from_numpy(small("breakout").seen(framestack or 1, (side, side)).observations()[::8]).double()
    saved = load(path, actions=4).network
    assert matched(saved, small("breakout"))[0].size == (side, side)
    expected = module.double().compute_q_values({"obs": frames.permute(0, 2, 3, 1) / 128 - 1})["qf_preds"]
    with torch.no_grad():
        assert (saved.double()(frames) - expected).abs().max() <= BOUND
    assert expected.std(0).min() > 100 * BOUND
    algorithm.stop()
