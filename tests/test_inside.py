"""Which weights of a file are taken for the Q-network's, whatever it calls them and holds beside them."""

import json
import logging
import zipfile

import pytest
import torch
from torch import nn

from rlwatch.checkpoints import load
from rlwatch.checkpoints.loading import _tell_of_copies
from tests.fixtures.saved import nature
from tests.test_checkpoints import FRAMES, close, grown


class Streams(nn.Module):
    """A dueling network whose streams have these names, the value's before or behind the advantage's."""

    def __init__(self, advantage, value, *, value_first=False):
        super().__init__()
        self.body, self.names = nature()[:7], (advantage, value)
        for name in reversed(self.names) if value_first else self.names:
            outputs = 4 if name == advantage else 1
            setattr(self, name, nn.Sequential(nn.Linear(3136, 64), nn.ReLU(), nn.Linear(64, outputs)))

    def forward(self, frames):
        seen = self.body(frames.float() / 255)
        advantage, value = (getattr(self, name)(seen) for name in self.names)
        return value + advantage - advantage.mean(1, keepdim=True)


class Named(nn.Module):
    """A network with its layers in the order and under the names told."""

    def __init__(self, layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)


def under(prefix, weights):
    return {f"{prefix}{name}": value for name, value in weights.items()}


WEIGHTS, LAGGING = nature().state_dict(), nature().state_dict()
FOUND = {
    "under any name": {"agent": WEIGHTS, "epoch": 3},
    "deep down": {"agent": {"model": {"state_dict": WEIGHTS}}},
    "beside an optimiser": {"policy_net": WEIGHTS, "optimizer": {"state": {0: {"exp_avg": torch.zeros(2, 2, 2, 2)}}}},
    "wrapped": under("module._orig_mod.", WEIGHTS),
    "as a module of a module": under("model.net.", WEIGHTS),
    "of a policy": under("policy.model.net.", WEIGHTS),
}
BESIDE = {
    "target": {"online": WEIGHTS, "target": LAGGING},
    "target_net": {**under("target_net.", LAGGING), **under("policy_net.", WEIGHTS)},
    "net.ema": {**under("net.online.", WEIGHTS), **under("net.ema.", LAGGING)},
    "q_target": {"state_dict": {**under("q.", WEIGHTS), **under("q_target.", LAGGING)}},
    "model_old": {"model": {**under("model.", WEIGHTS), **under("model_old.", LAGGING)}},
}


def q_values(weights):
    network = nature()
    network.load_state_dict(weights)
    return network(FRAMES.float() / 255)


@pytest.mark.parametrize("name", FOUND)
def test_weights_are_found_under_whatever_name_they_stand(tmp_path, name):
    torch.save(FOUND[name], tmp_path / "x.pt")
    assert torch.equal(load(tmp_path / "x.pt").network(FRAMES), q_values(WEIGHTS))


@pytest.mark.parametrize("copy", BESIDE)
def test_the_network_that_learns_is_taken_and_its_copies_are_named(tmp_path, caplog, copy):
    _tell_of_copies.cache_clear()
    torch.save(BESIDE[copy], tmp_path / "x.pt")
    with caplog.at_level(logging.WARNING, logger="rlwatch"):
        assert torch.equal(load(tmp_path / "x.pt").network(FRAMES), q_values(WEIGHTS))
    assert f"copies of the network that learns: {copy}" in caplog.messages[-1]


def test_a_file_of_the_target_network_alone_is_read(tmp_path):
    for number, content in enumerate((under("target_net.", WEIGHTS), {"target": WEIGHTS})):
        torch.save(content, tmp_path / f"{number}.pt")
        assert torch.equal(load(tmp_path / f"{number}.pt").network(FRAMES), q_values(WEIGHTS))


def test_several_networks_that_may_be_meant_are_refused_with_a_line_that_saves_one(tmp_path):
    torch.save({"nets": {"q1": WEIGHTS, "q2": LAGGING}}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"several networks, 'nets.q1', 'nets.q2'.* torch.save\(torch.load\(FILE\)"):
        load(tmp_path / "x.pt")
    torch.save(torch.load(tmp_path / "x.pt", weights_only=True)["nets"]["q1"], tmp_path / "one.pt")
    assert torch.equal(load(tmp_path / "one.pt").network(FRAMES), q_values(WEIGHTS))


def test_returns_that_are_no_number_are_refused_with_a_remedy(tmp_path):
    torch.save({"model": WEIGHTS, "returns": "many"}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="expected as its returns a number, got 'many': leave it out"):
        load(tmp_path / "x.pt")


@pytest.mark.parametrize(
    "names",
    [
        ("advantage_stream", "value_stream"),
        ("adv_head", "val_head"),
        ("fc_advantage", "fc_value"),
        ("advantage_values", "state_value"),
        ("fc_z_a", "fc_z_v"),
        ("a_stream", "v_stream"),
    ],
)
@pytest.mark.parametrize("value_first", [False, True])
def test_dueling_streams_are_known_by_many_names(tmp_path, names, value_first):
    network = grown(Streams(*names, value_first=value_first))
    torch.save(network.state_dict(), tmp_path / "x.pt")
    close(load(tmp_path / "x.pt").network(FRAMES), network(FRAMES))


@pytest.mark.parametrize("prefix", ["value_net.", "dqn_v2.", "q_value.", "advantage.value."])
def test_what_a_whole_network_is_called_makes_no_streams(tmp_path, prefix):
    torch.save(under(prefix, WEIGHTS), tmp_path / "x.pt")
    assert torch.equal(load(tmp_path / "x.pt").network(FRAMES), q_values(WEIGHTS))


@pytest.mark.parametrize("name", ["q_value", "q_values", "action_value"])
def test_a_last_layer_of_q_values_is_no_stream_of_the_value(tmp_path, name):
    network = grown(nature())
    last = {f"{name}.{part}": network[9].state_dict()[part] for part in ("weight", "bias")}
    body = {key: value for key, value in network.state_dict().items() if not key.startswith("9.")}
    torch.save({**under("body.", body), **last}, tmp_path / "x.pt")
    close(load(tmp_path / "x.pt").network(FRAMES), network(FRAMES.float() / 255))


def test_an_actor_and_a_critic_are_refused_by_name(tmp_path):
    parts = {"body": nature()[:7], "policy": nn.Linear(3136, 4), "value": nn.Linear(3136, 1)}
    torch.save(Named(parts).state_dict(), tmp_path / "x.pt")
    with pytest.raises(ValueError, match="stream of the value, 'value', and none that is called advantage"):
        load(tmp_path / "x.pt")


def test_an_embedding_of_fractions_is_not_taken_for_a_layer_behind_the_convolutions(tmp_path):
    parts = {"body": nature()[:7], "phi": nn.Linear(64, 3136), "fc": nn.Linear(3136, 512), "out": nn.Linear(512, 4)}
    torch.save(Named(parts).state_dict(), tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"read by 'phi' \(64 numbers\) or by 'fc' \(3136\).* rlwatch.explain"):
        load(tmp_path / "x.pt")


def test_padding_that_no_framework_of_the_file_has_is_not_taken_for_granted(tmp_path):
    network = nature()
    network[7] = nn.Linear(64 * 16 * 16, 512)  # of 84 × 84 where the first stride is 2; of 128 × 128 where padded
    torch.save(network.state_dict(), tmp_path / "x.pt")
    with pytest.raises(ValueError, match="pictures of none of the known sizes give"):
        load(tmp_path / "x.pt")


def stable_baselines3(path, weights, **settings):
    """What Stable-Baselines3 saves of a DQN, as far as it is read."""
    torch.save(weights, path.parent / "policy.pth")
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(path.parent / "policy.pth", "policy.pth")
        archive.writestr("data", json.dumps({"policy_kwargs": settings, "num_timesteps": 5}))
    return path


OF_Q_NET = {
    **under("q_net.features_extractor.", nature()[:9].state_dict()),
    **{
        f"q_net.q_net.{2 * n}.{part}": value for n in (0, 1) for part, value in nn.Linear(512, 512).state_dict().items()
    },
    **under("q_net.q_net.4.", nn.Linear(512, 4).state_dict()),
}


def test_another_activation_behind_relu_convolutions_is_refused(tmp_path):
    tanh = "<class 'torch.nn.modules.activation.Tanh'>"
    load(stable_baselines3(tmp_path / "x.zip", OF_Q_NET, activation_fn=tanh.replace("Tanh", "ReLU")))
    with pytest.raises(ValueError, match=r"ReLU behind its convolutions and Tanh .* rlwatch.explain\(model.policy"):
        load(stable_baselines3(tmp_path / "x.zip", OF_Q_NET, activation_fn=tanh))
    plain = {name: value for name, value in OF_Q_NET.items() if not name.startswith(("q_net.q_net.0", "q_net.q_net.2"))}
    load(stable_baselines3(tmp_path / "x.zip", plain, activation_fn=tanh))  # it stands behind no layer


def test_another_agent_of_stable_baselines3_is_refused_by_its_parts(tmp_path):
    weights = {"action_net.weight": torch.zeros(4, 64), "mlp_extractor.policy_net.0.weight": torch.zeros(64, 8)}
    with pytest.raises(ValueError, match=r"DQN or QR-DQN .* got a policy of action_net, mlp_extractor: other agents"):
        load(stable_baselines3(tmp_path / "x.zip", weights))
