"""Saved networks, read offline."""

import re

import pytest
import torch
from torch import nn

from rlwatch.checkpoints import find, load


def nature(actions=4, stack=4):
    convolutions = (
        nn.Conv2d(stack, 32, 8, 4),
        nn.ReLU(),
        nn.Conv2d(32, 64, 4, 2),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3),
        nn.ReLU(),
    )
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, actions))


FRAMES = torch.randint(0, 256, (3, 4, 84, 84), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"model": state, "step": 20, "game": "breakout"}])
def test_a_saved_network_gives_the_same_q_values(tmp_path, wrap):
    network, path = nature(), tmp_path / "step_000000020.pt"
    torch.save(wrap(network.state_dict()), path)
    saved = load(path)
    assert torch.equal(saved.network(FRAMES), network(FRAMES.float() / 255))
    assert saved.step == 20


def test_what_the_file_says_of_itself_is_kept(tmp_path):
    torch.save({"model": nature().state_dict(), "step": 7, "game": "pong", "returns": 3.5}, tmp_path / "x.pt")
    saved = load(tmp_path / "x.pt")
    assert (saved.step, saved.game, saved.returns) == (7, "pong", 3.5)


def test_a_network_without_biases_is_read_too(tmp_path):
    network = nature()
    weights = {name: value for name, value in network.state_dict().items() if not name.endswith("bias")}
    torch.save(weights, tmp_path / "x.pt")
    for module in network:
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)
    assert torch.equal(load(tmp_path / "x.pt").network(FRAMES), network(FRAMES.float() / 255))


def test_a_folder_gives_its_checkpoints_by_step_and_leaves_the_resume_state_out(tmp_path):
    for name in ("step_000010.pt", "step_000002.pt", "resume.pt", "notes.txt"):
        (tmp_path / name).touch()
    assert [file.name for file in find([tmp_path])] == ["step_000002.pt", "step_000010.pt"]


class Malicious:
    def __reduce__(self):
        return (print, ("executed",))


def truncated(path):
    torch.save(nature().state_dict(), path)
    path.write_bytes(path.read_bytes()[:5000])


REFUSED = {
    "truncated": (truncated, "copy it again"),
    "text": (lambda path: path.write_text("hello"), "expected a file of torch.save"),
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
        find([tmp_path])
