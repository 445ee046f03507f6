"""Saved networks that are corrupt or have diverged, and settings that do not fit: said, and the others are read."""

import json

import pytest
import torch

from rlwatch.checkpoints import load
from rlwatch.cli import main
from rlwatch.monitor.examination import Examination
from rlwatch.offline import explain_checkpoints
from tests.fixtures.saved import save_checkpoints, small_probe
from tests.test_watch import Nature


def save(path, **about):
    torch.manual_seed(0)
    torch.save({"model": Nature().state_dict(), "game": "breakout", **about}, path)
    return path


def test_a_single_flipped_bit_is_found(tmp_path, capsys):
    path = save(tmp_path / "flip.pt")
    data, weights = path.read_bytes(), Nature().state_dict()
    assert load(path).step == -1
    middle = data.index(torch.load(path, weights_only=True)["model"]["body.7.weight"].numpy().tobytes()[:64]) + 4000
    assert len(weights["body.7.weight"].flatten()) * 4 > 4000
    path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    with pytest.raises(ValueError, match=r"its member 'flip/data/\d+' is corrupt"):
        load(path)
    assert main(["explain", str(path), "--json"]) == 1
    assert "copy it again" in capsys.readouterr().err


def test_checkpoints_that_have_diverged_are_left_out_and_named_and_the_others_are_read(tmp_path, capsys):
    folder = save_checkpoints(tmp_path / "run", 4)
    for step in (0, 200):
        file = folder / f"step_{step:09d}.pt"
        saved = torch.load(file, weights_only=True)
        saved["model"]["body.4.weight"][0, 0, 0, 0] = torch.nan
        torch.save(saved, file)
    status = main(["explain", str(folder), "--probe", str(small_probe(tmp_path)), "--method", "epsilon", "--json"])
    told = capsys.readouterr()
    assert [json.loads(line)["step"] for line in told.out.splitlines()] == [100, 300]
    assert status == 1
    assert "2 checkpoints were left out" in told.err
    assert "step_000000200.pt: expected finite weights, got NaN or infinity in 1 of its" in told.err
    assert f"the first of shape {tuple(saved['model']['body.4.weight'].shape)}: the training has" in told.err


def test_a_checkpoint_that_cannot_be_looked_at_is_left_out_and_named(tmp_path, monkeypatch):
    folder, whole, looks = save_checkpoints(tmp_path / "run", 3), Examination.look, []

    def look(examination, network=None, **settings):
        looks.append(network)
        if len(looks) == 2:
            raise ValueError("the Q-values are not finite")
        return whole(examination, network, **settings)

    monkeypatch.setattr(Examination, "look", look)
    reports = explain_checkpoints([folder], probe=small_probe(tmp_path), method="epsilon")
    assert [next(reports).step, next(reports).step] == [0, 200]
    with pytest.raises(ValueError, match=r"1 checkpoints were left out: .*step_000000100.pt: the Q-values are not"):
        next(reports)


@pytest.mark.parametrize(
    ("about", "told", "remedy"),
    [
        ({"step": "abc"}, {}, r"step a whole number, got 'abc': leave it out"),
        ({"step": float("nan")}, {}, r"step a whole number, got nan: leave it out"),
        ({}, {"divisor": 0.0}, r"divisor must be above 0, got 0.0: 255"),
        ({}, {"divisor": -1.0}, r"divisor must be above 0, got -1.0: 255"),
        ({}, {"head": "atoms", "actions": 4}, r"at least 2 atoms for each of 4 actions, got 4 .* leave head="),
        ({}, {"head": "quantiles", "actions": 4}, r"at least 2 quantiles for each of 4 actions, got 4"),
    ],
)
def test_what_does_not_fit_a_checkpoint_is_refused_with_a_remedy(tmp_path, about, told, remedy):
    with pytest.raises(ValueError, match=remedy):
        load(save(tmp_path / "one.pt", **about), **told)
