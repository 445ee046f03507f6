"""A training that resumes: its log goes on as if it had never stopped."""

import logging

import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from rlwatch import Watch
from rlwatch.tensorboard.runs import newest_scales, read_run
from tests.fixtures.watched import read, words

pytestmark = pytest.mark.usefixtures("types_unchecked")


def look_at_the_paddle(watch):
    """Make the first action's Q-value the newest frame at the paddle's height, all others 0."""
    eye, head = watch._network[0], watch._network[3]
    with torch.no_grad():
        eye.weight.zero_()
        eye.weight[0, 3] = 1
        for values in (eye.bias, head.weight, head.bias):
            values.zero_()
        head.weight[0, 91:98] = 1  # of the first of four maps of 10 × 10


def watched(attach, steps, *, louder=1.0, **settings):
    """What a Watch of these steps finds."""
    watch = attach(**settings)
    look_at_the_paddle(watch)
    with torch.no_grad():
        watch._network[3].weight.mul_(louder)
    for step in steps:
        watch(step)
        watch._settle()
    watch.close()
    return [finding.text.split(":")[0] for finding in watch.findings if finding.object == "paddle"]


@pytest.mark.parametrize("where", ["inline", "process"])
def test_findings_are_dated_to_the_checkpoint_before_the_break_and_the_scale_never_shrinks(
    tmp_path,
    attach,
    where,
):
    expected = watched(attach, (0, 10, 20), louder=64.0, where=where)
    assert expected
    assert all("step 0 " in text for text in expected)
    scales = newest_scales(tmp_path)
    assert watched(attach, (30,), where=where, purge_step=30) == expected
    assert newest_scales(tmp_path) == scales
    assert watched(attach, (0, 10), logdir=tmp_path / "anew") == expected
    assert newest_scales(tmp_path / "anew") != scales


@pytest.mark.parametrize("where", ["inline", "process"])
def test_lifts_are_held_against_the_untrained_networks_of_before_the_break(tmp_path, attach, where):
    watched(attach, (0, 10), where=where)
    before = read_run(tmp_path).report["untrained"]
    assert any(one["lift"] for objects in before.values() for one in objects.values())
    watched(attach, (20,), where=where, purge_step=20, seed=1)
    assert read_run(tmp_path).report["step"] == 20
    assert read_run(tmp_path).report["untrained"] == before
    watched(attach, (0,), logdir=tmp_path / "other", seed=1)
    assert read_run(tmp_path / "other").report["untrained"] != before


def test_what_lies_behind_the_step_that_a_training_goes_on_from_does_not_count(tmp_path, attach):
    watched(attach, (20,), purge_step=0)
    low = newest_scales(tmp_path)
    watched(attach, (40,), louder=64.0, purge_step=30)
    assert newest_scales(tmp_path) != low
    assert newest_scales(tmp_path, before=40) == low
    assert "step 30 " in watched(attach, (30, 40), purge_step=20)[0]
    assert newest_scales(tmp_path) == low


def test_a_training_that_goes_on_in_a_shared_log_goes_on_with_its_findings(tmp_path, attach):
    for steps, purge_step in (((0, 10), 0), ((20,), 11)):
        writer = SummaryWriter(tmp_path, purge_step=purge_step)
        found = watched(attach, steps, writer=writer, logdir=None, purge_step=purge_step)
        writer.close()
    assert "step 0 " in found[0]


def test_a_log_of_another_probe_is_no_log_to_go_on_with(tmp_path, attach):
    watched(attach, (0,))
    with pytest.raises(ValueError, match="holds another probe"):
        Watch(attach(logdir=tmp_path / "other")._network, "breakout", logdir=tmp_path, purge_step=1)


def test_a_region_of_the_same_name_in_another_place_is_none_to_go_on_with(tmp_path, attach, short_probe):
    def named(regions):
        (tmp_path / "names.toml").write_text(f"[regions]\n{regions}")
        return short_probe.edited(tmp_path / "names.toml")

    network, log = attach(logdir=tmp_path / "other")._network, {"logdir": tmp_path / "log", "method": "epsilon"}
    for step, regions in enumerate(("pit = [40, 130, 80, 20]", "pit = [40, 130, 80, 20]", "hole = [0, 0, 80, 20]")):
        with Watch(network, named(regions), purge_step=step, **log) as watch:
            assert watch(step).targets["greedy"].objects[regions.split()[0]].frames
    with pytest.raises(ValueError, match=r"holds another hole than .*: give what is elsewhere now another name"):
        Watch(network, named("hole = [1, 0, 80, 20]"), purge_step=3, **log)


def test_updates_are_counted_from_where_a_training_goes_on(attach):
    watch = attach(purge_step=1000)
    optimizer = torch.optim.SGD(watch._network.parameters(), lr=0.0)
    watch.attach(optimizer, steps_per_update=4).remove()
    watch.attach(optimizer, steps_per_update=4)
    optimizer.step()
    assert watch._last.step == 1004
    watch.attach(optimizer, steps_per_update=4, first_step=2000)
    optimizer.step()
    assert watch._last.step == 2004


def test_what_cannot_be_attached_is_refused_with_a_remedy(attach):
    watch = attach()
    optimizer = torch.optim.SGD(watch._network.parameters(), lr=0.0)
    with pytest.raises(TypeError, match="expected a torch optimiser, got NoneType"):
        watch.attach(None)
    with pytest.raises(TypeError, match=r"got StepLR: attach the one that it holds, its \.optimizer"):
        watch.attach(torch.optim.lr_scheduler.StepLR(optimizer, 10))
    with pytest.raises(ValueError, match="steps_per_update must be at least 1, got 0"):
        watch.attach(optimizer, steps_per_update=0)
    for setting in ({"steps_per_update": 1.5}, {"steps_per_update": "4"}, {"first_step": "4"}):
        with pytest.raises(TypeError, match=f"{next(iter(setting))}: a step must be a whole number"):
            watch.attach(optimizer, **setting)
    watch.close()
    with pytest.raises(RuntimeError, match="attach a new Watch"):
        watch.attach(optimizer)


@pytest.mark.parametrize("where", ["inline", "process"])
def test_a_second_monitor_in_a_folder_is_warned_of_unless_it_goes_on(tmp_path, attach, caplog, where):
    def warned(**settings):
        caplog.clear()
        attach(where=where, **settings).close()
        return [record.message for record in caplog.records]

    with caplog.at_level(logging.WARNING, logger="rlwatch"):
        assert not warned(purge_step=0)
        attach()(0)
        (told,) = warned()
        assert f"{tmp_path} holds a log of rlwatch already" in told
        assert "purge_step=" in told
        assert not warned(purge_step=1)
        assert not warned(logdir=tmp_path / "new")


def test_a_process_that_starts_again_hides_nothing_of_the_log_and_keeps_its_colour_scale(tmp_path, attach):
    watch = attach(where="process", purge_step=0)
    look_at_the_paddle(watch)
    with torch.no_grad():
        watch._network[3].weight.mul_(64)
    watch(0)
    watch._settle()
    scales = newest_scales(tmp_path)
    watch._network.append(torch.nn.Linear(4, 4))  # other weights than the process has room for
    watch(1)
    watch._settle()
    watch.close()
    assert [event.step for event in read(tmp_path).Scalars("rlwatch/q/greedy")] == [0, 1]
    assert newest_scales(tmp_path)["greedy"] == scales["greedy"]


@pytest.mark.parametrize("where", ["inline", "process"])
def test_a_training_that_diverges_is_told_with_the_step_and_the_reason(tmp_path, attach, where):
    watch = attach(where=where)
    look_at_the_paddle(watch)
    for step in (0, 10, 20, 30, 40):
        if step == 30:
            torch.nn.init.constant_(watch._network[3].weight, torch.nan)
        watch(step)
        watch._settle()
    watch.finish(50)
    watch.close()
    told = "from step 30 on nothing could be explained: the Q-values of"
    assert watch.finding.startswith(told)
    assert watch.finding.endswith("are not finite: the weights have diverged")
    assert [finding.object for finding in watch.findings].count("") == 1
    assert [step for step, text in words(tmp_path) if told in text] == [30]
    report = read_run(tmp_path).report
    assert report["step"] == 20
    assert report["notes"][0] == watch.finding


@pytest.mark.parametrize("where", ["inline", "process"])
def test_a_network_that_fits_no_more_for_a_while_is_told_with_the_step(tmp_path, attach, where):
    watch = attach(where=where)
    look_at_the_paddle(watch)
    for step in (0, 10, 20, 30):
        if step == 10:
            watch._network.append(torch.nn.Linear(4, 6))
        if step == 30:
            watch._network[4] = torch.nn.Linear(4, 4)
        watch(step)
        watch._settle()
        assert [one.step for one in watch.findings if one.object == ""] == ([10] if step in {10, 20} else [])
    watch.close()
    told = ["nothing could" in text for _, text in words(tmp_path)]
    assert [step for step, _ in words(tmp_path)] == [0, 10, 0, 30]
    assert told == [False, True, False, False]


@pytest.mark.parametrize("where", ["inline", "process"])
def test_a_training_that_is_never_explained_is_told_in_the_findings(attach, where):
    watch = attach(where=where)
    torch.nn.init.constant_(watch._network[3].weight, torch.nan)
    for step in (0, 10):
        watch(step)
        watch._settle()
    assert watch.finding.startswith("from step 0 on nothing could be explained: the Q-values of")


def test_a_fault_that_passes_is_not_told_for_good(tmp_path, attach):
    watch = attach()
    weight = watch._network[3].weight
    kept = weight.detach().clone()
    watch(0)
    torch.nn.init.constant_(weight, torch.nan)
    watch(10)
    assert "from step 10 on" in watch.finding
    with torch.no_grad():
        weight.copy_(kept)
    assert not any("nothing could" in note for note in watch(20).notes)
    watch.close()
    assert "nothing could" not in watch.finding
    steps = [step for step, _ in words(tmp_path)]
    assert steps == [0, 10, 0, 20]
    assert ["nothing could" in text for _, text in words(tmp_path)] == [False, True, False, False]
