"""Checkpoint files as an enemy or a broken disk would have them: refused with a reason, and nothing in them runs."""

import base64
import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from rlwatch.checkpoints import files, load

FRAMES = torch.rand(1, 4, 84, 84)


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def tiny():
    """A network of Nature DQN's kernels that makes a file of 20 kB."""
    torch.manual_seed(0)
    body = [nn.Conv2d(4, 2, 8, 4), nn.ReLU(), nn.Conv2d(2, 2, 4, 2), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.ReLU()]
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(98, 8), nn.ReLU(), nn.Linear(8, 4))


def saved(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def zipped(members, compression=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def stable_baselines3(serialized="", **others):
    """As Stable-Baselines3 saves a model."""
    names = ["cnn.0", "cnn.2", "cnn.4", "linear.0"]
    layers = [f"q_net.features_extractor.{name}" for name in names] + ["q_net.q_net.0"]
    weights = [layer for layer in tiny() if list(layer.parameters())]
    policy = {
        f"{name}.{part}": value
        for name, layer in zip(layers, weights, strict=True)
        for part, value in layer.state_dict().items()
    }
    data = json.dumps({"num_timesteps": 5, "policy_class": {":serialized:": serialized}})
    return zipped({"data": data, "policy.pth": saved(policy), **others})


def rllib():
    """As RLlib saves a module: NumPy arrays in a pickle."""
    names = ["encoder.net.0.cnn.1", "encoder.net.0.cnn.4", "encoder.net.0.cnn.7", "af.net.mlp.0", "af.net.mlp.2"]
    layers = [layer for layer in tiny() if list(layer.parameters())]
    return {
        f"{name}.{part}": value.numpy()
        for name, layer in zip(names, layers, strict=True)
        for part, value in layer.state_dict().items()
    }


def flax():
    parameters = {}
    for name, value in rllib().items():
        layer, _, part = name.rpartition(".")
        number = layer.split(".")[-1]
        new = f"Conv_{'147'.index(number)}" if "cnn" in layer else f"Dense_{'02'.index(number)}"
        turned = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
        parameters[f"{new}/{'kernel' if part == 'weight' else part}"] = turned
    file = io.BytesIO()
    np.savez_compressed(file, **{name: np.ascontiguousarray(value) for name, value in parameters.items()})
    return file.getvalue()


WHOLE = {
    "torch.pt": lambda: saved(tiny().state_dict()),
    "stable_baselines3.zip": stable_baselines3,
    "rllib.pkl": lambda: pickle.dumps(rllib()),
    "d3rlpy.d3": lambda: pickle.dumps(
        {
            "torch": saved({"q_funcs": {f"0.{name}": value for name, value in tiny().state_dict().items()}}),
            "config": "{}",
        }
    ),
    "dopamine.npz": flax,
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_are_read(tmp_path, name):
    (tmp_path / name).write_bytes(WHOLE[name]())
    assert load(tmp_path / name).network(torch.zeros(1, 4, 84, 84)).shape == (1, 4)


def refused(tmp_path, data, reason, name="x.pt"):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=reason) as told:
        load(tmp_path / name)
    assert str(tmp_path / name) in str(told.value)


CARRIERS = {
    "a pickle": (lambda bomb: pickle.dumps({**rllib(), "x": bomb}), "posix.mkdir"),
    "a file of torch.save": (lambda bomb: saved({"model": bomb}), "no readable checkpoint"),
    "the torch file within a d3 file": (
        lambda bomb: pickle.dumps({"torch": saved({"q_funcs": {"0.x": bomb}}), "config": "{}"}),
        "mkdir",
    ),
    "an array of objects": (lambda bomb: zipped({"params/Conv_0/kernel.npy": npy(np.array([bomb], object))}), "object"),
    "an array of objects in a pickle": (lambda bomb: pickle.dumps({"a": np.array([bomb], object)}), "mkdir"),
}


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize("name", CARRIERS)
def test_code_in_a_file_is_refused_and_does_not_run(tmp_path, name):
    write, reason = CARRIERS[name]
    refused(tmp_path, write(Bomb(tmp_path / "executed")), reason)
    assert not (tmp_path / "executed").exists()


def test_pickles_among_a_models_settings_are_never_opened(tmp_path):
    serialized = base64.b64encode(pickle.dumps(Bomb(tmp_path / "executed"))).decode()
    (tmp_path / "x.zip").write_bytes(stable_baselines3(serialized, **{"pytorch_variables.pth": saved(Bomb("x"))}))
    assert load(tmp_path / "x.zip").step == 5
    assert not (tmp_path / "executed").exists()


class Call:
    """A pickle of a call with what it is then told of its state."""

    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return self.parts


def kind(code):
    return Call(np.dtype, (code, False, True), (3, "<", None, None, None, -1, -1, 0))


RECONSTRUCT = np.empty(0).__reduce__()[0]
SHAPELESS = (np.ndarray, (0,), b"b")
ARRAYS = {
    "more numbers than it holds": (RECONSTRUCT, SHAPELESS, (1, (10**12,), kind("f4"), False, b"1234")),
    "a negative shape": (RECONSTRUCT, SHAPELESS, (1, (-1, -1), kind("f4"), False, b"1234")),
    "a shape of no numbers": (RECONSTRUCT, SHAPELESS, (1, ("x",), kind("f4"), False, b"1234")),
    "structures": (RECONSTRUCT, SHAPELESS, (1, (1,), kind([("a", "f4")]), False, b"1234")),
    "text": (RECONSTRUCT, SHAPELESS, (1, (1,), kind("U1"), False, b"1234")),
    "no numbers": (RECONSTRUCT, (np.ndarray, (10**12,), b"f")),
    "a state of nothing": (RECONSTRUCT, SHAPELESS, (1,)),
}


@pytest.mark.parametrize("write", [pickle.dumps, saved])
@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_that_is_not_what_it_says_is_refused(tmp_path, name, write):
    refused(tmp_path, write({"a": Call(*ARRAYS[name])}), "no readable checkpoint")


@pytest.mark.parametrize("write", [pickle.dumps, saved])
def test_numpys_own_types_cannot_be_called(tmp_path, write):
    refused(tmp_path, write({"a": Call(np.ndarray, ((10**12,),))}), "no readable checkpoint")


@pytest.mark.skipif(torch.__version__ < "2.6", reason="torch cannot be told what stands for NumPy's names")
def test_numpys_numbers_beside_the_weights_are_read_and_torch_allows_them_no_longer_after(tmp_path):
    beside = {
        "step": np.int64(7),
        "returns": np.float32(2.5),
        "done": np.bool_(1),
        "rng": np.random.RandomState(0).get_state(),
    }
    torch.save({"model": tiny().state_dict(), **beside}, tmp_path / "x.pt")
    allowed = torch.serialization.get_safe_globals()
    told = load(tmp_path / "x.pt")
    assert (told.step, told.returns) == (7, 2.5)
    assert (files.step_inside(tmp_path / "x.pt"), set(torch.serialization.get_safe_globals())) == (7, set(allowed))
    torch.save({name: value.numpy() for name, value in tiny().state_dict().items()}, tmp_path / "arrays.pt")
    assert torch.equal(load(tmp_path / "arrays.pt").network(FRAMES), told.network(FRAMES))


def laughs():
    """A few hundred bytes that refer to 10^20 values."""
    value = ["ha"] * 10
    for _ in range(20):
        value = [value] * 10
    return {"x": value}


@pytest.mark.parametrize("write", [pickle.dumps, saved])
def test_a_file_that_refers_to_itself_without_end_is_refused(tmp_path, write):
    refused(tmp_path, write(laughs()), "more than 100,000 values")
    endless = []
    endless.append(endless)
    refused(tmp_path, write({"x": endless}), "more than 100,000 values")


def test_a_view_that_is_larger_than_what_it_looks_at_is_refused(tmp_path):
    refused(tmp_path, saved({"0.weight": torch.zeros(1).expand(10**6, 10**6)}), "expected at most")


def test_an_archive_that_inflates_to_too_much_is_refused_before_it_does(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", 2**22)
    refused(tmp_path, zipped({"archive/data/0": bytes(2**25)}), "inflates to 33,554,432 bytes")
    refused(tmp_path, stable_baselines3(x=bytes(2**25)), "inflates to")
    inner = zipped({"archive/data/0": bytes(2**25)})
    refused(tmp_path, pickle.dumps({"torch": inner, "config": "{}"}), "inflates to")
    refused(tmp_path, os.urandom(2**22 + 1), "bytes, expected at most")


def test_an_archive_that_lies_about_its_size_gives_no_more_than_it_says(tmp_path):
    data = bytearray(zipped({"params/Conv_0/kernel.npy": bytes(2**25)}))
    true, told = (2**25).to_bytes(4, "little"), (1000).to_bytes(4, "little")
    refused(tmp_path, bytes(data).replace(true, told), "no readable checkpoint")


@pytest.mark.parametrize("member", ["../policy.pth", "/policy.pth", "a/../../policy.pth", "..\\policy.pth"])
def test_a_member_that_leads_out_of_the_archive_is_refused(tmp_path, member):
    (tmp_path / "in").mkdir()
    refused(tmp_path / "in", stable_baselines3(**{member: b"x"}), "leads out of the archive")
    assert [file.name for file in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("name", WHOLE)
def test_a_truncated_file_is_refused(tmp_path, name):
    data = WHOLE[name]()
    for part in (0.1, 0.5, 0.9, 0.999):
        refused(tmp_path, data[: int(len(data) * part)], "no readable checkpoint")


def test_a_deeply_nested_file_is_refused(tmp_path):
    nested = b"\x80\x04" + b"]" * 50_000 + b"a" * 49_999 + b"."
    refused(tmp_path, nested, "recursion")
    refused(tmp_path, b"\x80\x04" + b"(" * 10**6 + b".", "no readable checkpoint")
