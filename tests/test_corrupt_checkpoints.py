"""Saved networks that are corrupt or have diverged, and settings that do not fit: said, and the others are read."""

import contextlib
import json
import re
import shutil

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlwatch.checkpoints import load
from rlwatch.checkpoints.files import step_inside
from rlwatch.cli import main
from rlwatch.monitor.examination import Examination
from rlwatch.offline import explain_checkpoints
from rlwatch.tensorboard.blobs import REPORT, parse
from rlwatch.tensorboard.runs import read_run
from tests.fixtures.saved import nature, save_checkpoints, small_probe
from tests.fixtures.watched import Nature, words


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
    diverged(folder, 0, 200)
    status = main(["explain", str(folder), "--probe", str(small_probe(tmp_path)), "--method", "epsilon", "--json"])
    told = capsys.readouterr()
    assert [json.loads(line)["step"] for line in told.out.splitlines()] == [100, 300]
    assert status == 1
    assert "2 of 4 checkpoints left out" in told.err
    assert "step_000000200.pt: expected finite weights, got NaN or infinity in 1 of its" in told.err
    assert f"the first of shape {tuple(Nature().state_dict()['body.4.weight'].shape)}: the training has" in told.err


def diverged(folder, *steps):
    for step in steps:
        file = folder / f"step_{step:09d}.pt"
        saved = torch.load(file, weights_only=True)
        saved["model"]["body.4.weight"][0, 0, 0, 0] = torch.nan
        torch.save(saved, file)


def explained(folder, log):
    """Explains the run as far as it can be, and gives the log's newest step, its notes, and the findings in words."""
    with contextlib.suppress(ValueError):
        list(explain_checkpoints([folder], probe=small_probe(folder.parent), method="epsilon", logdir=log))
    report = read_run(log).report
    return report["step"], report["notes"], words(log)


TOLD = "from step 200 on nothing could be explained: "


def test_the_log_says_from_where_on_checkpoints_have_diverged(tmp_path):
    folder, log = save_checkpoints(tmp_path / "run", 4), tmp_path / "log"
    diverged(folder, 0, 200, 300)
    step, notes, told = explained(folder, log)
    assert step == 100
    assert notes[0].startswith(TOLD)
    assert "step_000000200.pt: expected finite weights" in notes[0]
    assert [step for step, text in told if TOLD in text] == [200]
    assert explained(folder, log) == (step, notes, told)


def test_a_log_that_goes_on_says_so_and_takes_it_back_where_later_ones_can_be_explained(tmp_path):
    run, folder, log = save_checkpoints(tmp_path / "all", 4), tmp_path / "run", tmp_path / "log"
    diverged(run, 200)
    folder.mkdir()
    files = sorted(run.iterdir())
    for file in files[:2]:
        shutil.copy(file, folder)
    _, before, _ = explained(folder, log)
    shutil.copy(files[2], folder)
    step, notes, _ = explained(folder, log)
    assert (step, notes[1:]) == (100, before)
    assert notes[0].startswith(TOLD)
    shutil.copy(files[3], folder)
    step, notes, told = explained(folder, log)
    assert step == 300
    assert [step for step, text in told if TOLD in text] == [200]
    records = EventAccumulator(str(log), size_guidance={"tensors": 0}).Reload().Tensors(REPORT)
    of_100 = [parse(one.tensor_proto.string_val[0])["notes"] for one in records if one.step == 100]
    assert [any(note.startswith(TOLD) for note in notes) for notes in of_100] == [False, True, False]
    assert of_100[0] == of_100[2] == before


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
    with pytest.raises(ValueError, match=r"1 of 3 checkpoints left out: .*step_000000100.pt: the Q-values are not"):
        next(reports)


@pytest.mark.parametrize(
    ("about", "told", "remedy"),
    [
        ({"step": "abc"}, {}, r"step a whole number below 2\*\*63, got 'abc': leave it out"),
        ({"step": 10**30}, {}, r"step a whole number below 2\*\*63, got 1000000000"),
        ({"step": float("nan")}, {}, r"step a whole number below 2\*\*63, got nan: leave it out"),
        ({}, {"divisor": 0.0}, r"divisor must be above 0, got 0.0: 255"),
        ({}, {"divisor": -1.0}, r"divisor must be above 0, got -1.0: 255"),
        ({}, {"head": "atoms", "actions": 4}, r"at least 2 atoms for each of 4 actions, got 4 .* leave head="),
        ({}, {"head": "quantiles", "actions": 4}, r"at least 2 quantiles for each of 4 actions, got 4"),
    ],
)
def test_what_does_not_fit_a_checkpoint_is_refused_with_a_remedy(tmp_path, about, told, remedy):
    with pytest.raises(ValueError, match=remedy):
        load(save(tmp_path / "one.pt", **about), **told)


def as_before_archives(path):
    torch.save(nature().state_dict(), path, _use_new_zipfile_serialization=False)


def as_safetensors(path):
    header = json.dumps({"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))


OF_OTHERS = {
    "TorchScript": (lambda path: torch.jit.save(torch.jit.script(nature()), path), "torch.jit.load(FILE).state_dict()"),
    "before 1.6": (as_before_archives, "torch.save(torch.load(FILE), 'model.pt')"),
    "safetensors": (as_safetensors, "safetensors.torch.load_file(FILE)"),
    "no plain value": (lambda path: torch.save({"model": nature()}, path), "it names torch.nn.modules"),
}


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning", "default:'torch.load' received")
@pytest.mark.parametrize("kind", OF_OTHERS)
def test_a_file_of_another_kind_is_named_with_what_makes_it_anew(tmp_path, recwarn, kind):
    write, remedy = OF_OTHERS[kind]
    write(tmp_path / "x.pt")
    assert step_inside(tmp_path / "x.pt") == -1
    with pytest.raises(ValueError, match=re.escape(remedy)) as refused:
        load(tmp_path / "x.pt")
    assert "add_safe_globals" not in str(refused.value)
    assert not [one for one in recwarn if "received a zip file" in str(one.message)]


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_what_the_refusals_of_others_say_makes_a_readable_file(tmp_path):
    torch.jit.save(torch.jit.script(nature()), tmp_path / "script.pt")
    as_before_archives(tmp_path / "old.pt")
    torch.save(torch.jit.load(tmp_path / "script.pt").state_dict(), tmp_path / "a.pt")
    torch.save(torch.load(tmp_path / "old.pt", weights_only=True), tmp_path / "b.pt")
    assert [load(tmp_path / name).step for name in ("a.pt", "b.pt")] == [-1, -1]
