"""Saved networks, read offline."""

import logging
import pickle
import re

import numpy as np
import pytest
import torch
from torch import nn

from rlwatch.checkpoints import load, placed_files, plain_pickle
from tests.fixtures.saved import nature, save_checkpoints
from tests.frameworks import cleanrl_style

FRAMES = torch.randint(0, 256, (3, 4, 84, 84), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"model": state, "step": 20, "game": "breakout"}])
def test_a_saved_network_gives_the_same_q_values(tmp_path, wrap):
    network, path = nature(), tmp_path / "step_000000020.pt"
    torch.save(wrap(network.state_dict()), path)
    saved = load(path)
    assert torch.equal(saved.network(FRAMES), network(FRAMES.float() / 255))
    assert saved.step == 20


@pytest.mark.parametrize("told", [{"divisor": 1.0}, {"head": "quantiles", "actions": 2}, {"activation": "tanh"}])
def test_networks_read_alike_look_alike_when_they_are_printed_and_others_do_not(tmp_path, told):
    folder = save_checkpoints(tmp_path / "saved", 2)
    one, other = (load(file).network for file in sorted(folder.iterdir()))
    assert repr(one) == repr(other)
    assert repr(load(next(folder.iterdir()), **told).network) != repr(one)


def test_reading_draws_no_random_numbers(tmp_path):
    torch.save(nature().state_dict(), tmp_path / "x.pt")
    before = torch.get_rng_state()
    load(tmp_path / "x.pt")
    assert torch.equal(torch.get_rng_state(), before)


def test_what_the_file_says_of_itself_is_kept(tmp_path):
    torch.save({"model": nature().state_dict(), "step": 7, "game": "pong", "returns": 3.5}, tmp_path / "x.pt")
    saved = load(tmp_path / "x.pt")
    assert (saved.step, saved.game, saved.returns) == (7, "pong", 3.5)


@pytest.mark.parametrize("name", ["step", "global_step", "num_timesteps"])
@pytest.mark.parametrize("told", [7, 7.0, np.int64(7), torch.tensor(7), np.array(7)])
def test_a_step_is_read_under_its_usual_names_also_as_a_tensor(tmp_path, name, told):
    path = tmp_path / "model_99.pt"
    torch.save({"model": nature().state_dict(), "optimizer": {"step": 3}, name: told}, path)
    assert load(path).step == 7
    assert placed_files([path])[0].step == 7


@pytest.mark.parametrize("told", [7.5, torch.tensor(7.5), np.float32(7.5)])
def test_a_step_with_a_fraction_is_refused(tmp_path, told):
    path = tmp_path / "x.pt"
    torch.save({"model": nature().state_dict(), "step": told}, path)
    with pytest.raises(ValueError, match="expected as its step a whole number"):
        load(path)


@pytest.mark.parametrize("told", [None, {"seven": 7}, torch.zeros(2)])
def test_what_is_no_number_is_no_step_and_the_files_name_is_asked(tmp_path, told):
    path = tmp_path / "model_99.pt"
    torch.save({"model": nature().state_dict(), "step": told}, path)
    assert load(path).step == 99
    assert placed_files([path])[0].step == 99


def test_a_network_without_biases_is_read_too(tmp_path):
    network = nature()
    weights = {name: value for name, value in network.state_dict().items() if not name.endswith("bias")}
    torch.save(weights, tmp_path / "x.pt")
    for module in network:
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)
    assert torch.equal(load(tmp_path / "x.pt").network(FRAMES), network(FRAMES.float() / 255))


def test_streams_of_several_numbers_for_each_action_are_refused_until_it_is_told_what_they_are(tmp_path):
    body = nature()[:6]
    parts = {"body": body, "advantage": nn.Linear(3136, 4 * 21), "value": nn.Linear(3136, 21)}
    torch.save(nn.ModuleDict(parts).state_dict(), tmp_path / "rainbow.pt")
    with pytest.raises(ValueError, match=r"84 outputs, and the file does not say what of: .*head='atoms'"):
        load(tmp_path / "rainbow.pt", actions=4)
    features = body(FRAMES.float() / 255).flatten(1)
    advantage, value = parts["advantage"](features).view(-1, 4, 21), parts["value"](features).view(-1, 1, 21)
    table = value + advantage - advantage.mean(1, keepdim=True)
    expected = {"quantiles": table.mean(2), "atoms": (table.softmax(2) * torch.linspace(-10, 10, 21)).sum(2)}
    for head, q_values in expected.items():
        network = load(tmp_path / "rainbow.pt", actions=4, head=head).network
        torch.testing.assert_close(network(FRAMES), q_values, rtol=1e-5, atol=1e-5)


def test_a_scale_without_a_bias_is_refused_since_it_need_be_no_layer_normalisation(tmp_path):
    network = nature()
    network.insert(8, nn.RMSNorm(512))
    torch.save(network.state_dict(), tmp_path / "x.pt")
    with pytest.raises(ValueError, match="it holds '8', which may be an RMSNorm or a PReLU for want of a bias"):
        load(tmp_path / "x.pt")


def test_of_bare_weights_it_is_told_once_a_folder_what_is_taken_for_granted(tmp_path, caplog):
    weights = nature().state_dict()
    named = {"a.pt": weights, "b.pt": {"model_state_dict": weights, "epoch": 3}, "c.cleanrl_model": weights}
    for name, content in {**named, "d.pt": {"model": weights, "game": "pong"}}.items():
        torch.save(content, tmp_path / name)
    with caplog.at_level(logging.WARNING, logger="rlwatch"):
        for name in ("c.cleanrl_model", "d.pt"):
            load(tmp_path / name)
        load(tmp_path / "a.pt", divisor=255.0)
        assert not caplog.records
        networks = [load(tmp_path / name).network for name in ("a.pt", "b.pt")]
    assert torch.equal(networks[0](FRAMES), networks[1](FRAMES))
    assert caplog.text.count("divides pixels by 255 and has a ReLU behind every layer but the last; --divisor") == 1


CLEANRL = {
    "DQN": (cleanrl_style.QNetwork, lambda network, x: network(x), {}),
    "C51": (cleanrl_style.C51Network, cleanrl_style.c51_values, {"n_atoms": 51, "v_min": -10, "v_max": 10}),
    "Rainbow": (cleanrl_style.RainbowNetwork, cleanrl_style.rainbow_values, {}),
    "PQN": (cleanrl_style.PQNNetwork, lambda network, x: network(x), {}),
}


@pytest.mark.parametrize("name", CLEANRL)
def test_what_a_loop_in_the_manner_of_cleanrl_saves_gives_its_q_values(tmp_path, name):
    make, values, args = CLEANRL[name]
    network = grown(make())
    path = tmp_path / "BreakoutNoFrameskip-v4__1" / f"{name}.cleanrl_model"
    path.parent.mkdir()
    wrapped = {"model_weights": network.state_dict(), "args": {"env_id": "BreakoutNoFrameskip-v4", **args}}
    torch.save(wrapped if args else network.state_dict(), path)
    close(load(path).network(FRAMES), values(network, FRAMES.float()))
    assert load(path).game == ("BreakoutNoFrameskip-v4" if args else "")


def grown(network):
    """The network with weights by which Q-values differ."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2).add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)) * 0.02)
    return network.eval()


def close(found, expected):
    expected = expected.detach()
    assert expected.std(0).min() > 1e-3
    assert torch.allclose(found.detach(), expected, atol=1e-6 * max(1.0, float(expected.abs().max())), rtol=0)


def flax(outputs):
    """Parameters as Dopamine's networks have them: kernels (y, x, in, out), matrices (in, out)."""
    rng = np.random.default_rng(0)
    shapes = {"Conv_0": (8, 8, 4, 32), "Conv_1": (4, 4, 32, 64), "Conv_2": (3, 3, 64, 64)}
    shapes |= {"Dense_0": (7744, 512), "Dense_1": (512, outputs)}
    return {
        name: {
            "kernel": (rng.normal(size=shape) * 2 / np.sqrt(np.prod(shape[:-1]))).astype(np.float32),
            "bias": rng.normal(size=shape[-1]).astype(np.float32) / 10,
        }
        for name, shape in shapes.items()
    }


def dopamine(parameters, frames):
    """A slow replica of Dopamine's NatureDQNNetwork, in float64: NHWC, padding SAME, flattened as it stands."""
    x = frames.numpy().transpose(0, 2, 3, 1) / 255.0
    for name, stride in (("Conv_0", 4), ("Conv_1", 2), ("Conv_2", 1)):
        kernel = parameters[name]["kernel"].astype(float)
        missing = max((-(-x.shape[1] // stride) - 1) * stride + len(kernel) - x.shape[1], 0)
        sides = (missing // 2, missing - missing // 2)
        padded = np.pad(x, ((0, 0), sides, sides, (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[:2], (1, 2))[:, ::stride, ::stride]
        x = np.maximum(np.einsum("nyxcij,ijco->nyxo", windows, kernel, optimize=True) + parameters[name]["bias"], 0)
    x = np.maximum(
        x.reshape(len(x), -1) @ parameters["Dense_0"]["kernel"].astype(float) + parameters["Dense_0"]["bias"], 0
    )
    return x @ parameters["Dense_1"]["kernel"].astype(float) + parameters["Dense_1"]["bias"]


def write_pickle(path, parameters):
    path.write_bytes(pickle.dumps({"online_params": {"params": parameters}, "current_iteration": 3}))


def write_npz(path, parameters):
    flat = {f"params/{layer}/{part}": parameters[layer][part] for layer in parameters for part in parameters[layer]}
    with path.open("wb") as file:
        np.savez_compressed(file, **flat)


@pytest.mark.parametrize("write", [write_pickle, write_npz])
def test_dopamines_parameters_as_numpy_arrays_give_its_q_values(tmp_path, write):
    parameters = flax(outputs=4)
    write(tmp_path / "ckpt.199", parameters)
    saved = load(tmp_path / "ckpt.199")
    close(saved.network.double()(FRAMES.double()), torch.from_numpy(dopamine(parameters, FRAMES)))
    assert saved.step == 199


@pytest.mark.parametrize("head", ["atoms", "quantiles"])
def test_dopamines_distributions_are_read_as_told(tmp_path, head):
    parameters = flax(outputs=4 * 51)
    write_pickle(tmp_path / "ckpt.0", parameters)
    table = torch.from_numpy(dopamine(parameters, FRAMES)).view(len(FRAMES), 4, 51)
    expected = table.mean(2) if head == "quantiles" else (table.softmax(2) * torch.linspace(-10, 10, 51)).sum(2)
    network = load(tmp_path / "ckpt.0", actions=4, head=head).network.double()
    close(network(FRAMES.double()), expected)
    with pytest.raises(ValueError, match="head='atoms' for C51"):
        load(tmp_path / "ckpt.0", actions=4)


def test_what_a_pickle_may_hold_is_read_as_it_was():
    content = {"a": [1, (2.5, "x", None, True)], "b": np.arange(6.0).reshape(2, 3).T, "c": np.float32(3)}
    for protocol in range(2, 6):
        found = plain_pickle.loads(pickle.dumps(content, protocol))
        assert found["a"] == content["a"]
        assert np.array_equal(found["b"], content["b"])
        assert found["c"] == 3


NAMES = {
    "run/step_000002.pt": 2,
    "run/checkpoint_000010/learner_group/learner/rl_module/default_policy/module_state.pkl": 10,
    "run/1000_finish/model.pt": 1000,
    "run/ckpt.30": 30,
    "run/rl_model_400_steps.zip": 400,
}
OTHERS = (
    "run/notes.txt",
    "run/1000_finish/target_model.pt",
    "run/1000_finish/optimizer.pt",
    "run/checkpoint_000010/env_runner/rl_module/default_policy/module_state.pkl",
    "run/checkpoint_000010/learner_group/learner/rl_module/module_state.pkl",
)


def test_a_run_gives_each_frameworks_checkpoints_by_step_and_nothing_else(tmp_path):
    for name in (*NAMES, *OTHERS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [one.path for one in placed_files([tmp_path])] == [tmp_path / name for name in sorted(NAMES, key=NAMES.get)]
    (matched,) = placed_files([tmp_path / "run" / "*.zip"])
    assert matched.path == tmp_path / "run/rl_model_400_steps.zip"
    with pytest.raises(FileNotFoundError, match="nothing matches"):
        placed_files([tmp_path / "run" / "*.d3"])


def test_a_folder_gives_its_checkpoints_by_step_and_leaves_the_resume_state_out(tmp_path):
    for name in ("step_000010.pt", "step_000002.pt", "resume.pt", "notes.txt"):
        (tmp_path / name).touch()
    assert [one.path.name for one in placed_files([tmp_path])] == ["step_000002.pt", "step_000010.pt"]


class Malicious:
    def __reduce__(self):
        return (print, ("executed",))


def truncated(path):
    torch.save(nature().state_dict(), path)
    path.write_bytes(path.read_bytes()[:5000])


REFUSED = {
    "truncated": (truncated, "copy it again"),
    "text": (lambda path: path.write_text("hello"), "neither a zip archive nor a pickle"),
    "code": (lambda path: torch.save({"model": Malicious()}, path), "holds only tensors"),
    "list": (lambda path: torch.save([1, 2], path), "holds a list, expected a state dict"),
    "empty": (lambda path: torch.save({"step": 3}, path), "holds no weights"),
    "another form": (lambda path: torch.save(nn.Linear(3, 3).state_dict(), path), "those of a Nature DQN"),
    "another input": (lambda path: torch.save(small_head().state_dict(), path), "do not fit one another"),
}


def small_head():
    network = nature()
    network[7] = nn.Linear(1000, 512)
    return network


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_checkpoint_is_refused_with_a_remedy_and_nothing_runs(tmp_path, capsys, name):
    write, remedy = REFUSED[name]
    write(tmp_path / "x.pt")
    with pytest.raises(ValueError, match=re.escape(remedy)):
        load(tmp_path / "x.pt")
    assert "executed" not in capsys.readouterr().out


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*x\.pt"):
        load(tmp_path / "x.pt")
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        placed_files([tmp_path])
