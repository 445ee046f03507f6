"""Pictures of other sizes and stacks of other depths than the recorded four of 84 by 84."""

import time
from itertools import product

import cv2
import gymnasium
import numpy as np
import pytest
import torch
from torch import nn

from rlwatch import Probe, Watch
from rlwatch.atari import screen
from rlwatch.attribution.randomise import untrained
from rlwatch.checkpoints import load
from rlwatch.monitor.matching import behind, matched
from rlwatch.tensorboard.writer import RunWriter
from rlwatch.unwrap import Read
from tests.fixtures.blobs import decode_maps
from tests.fixtures.saved import small_probe
from tests.fixtures.watched import Nature


class Takes(nn.Module):
    """A small network for `depth` pictures of one size."""

    def __init__(self, depth, size, *, channels_last=False):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(depth, 8, 8, 4), nn.ReLU(), nn.Conv2d(8, 8, 4, 2), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(self.trunk(torch.zeros(1, depth, *size)).shape[1], 4)
        self.channels_last = channels_last

    def forward(self, x):
        return self.head(self.trunk((x.permute(0, 3, 1, 2) if self.channels_last else x).float() / 255))


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    return Probe.load(small_probe(tmp_path_factory.mktemp("small"), segments=3))


VIEWS = [(4, (64, 64), True), (1, (64, 64), True), (1, (84, 84), False), (2, (84, 84), False), (8, (84, 84), False)]


@pytest.mark.parametrize(("depth", "size", "channels_last"), [*VIEWS, (4, (105, 80), False), (4, (105, 80), True)])
def test_size_and_depth_are_found_by_trial_and_all_that_is_logged_follows_them(
    tmp_path, monkeypatch, probe, depth, size, channels_last
):
    torch.manual_seed(0)
    pages = []
    write = RunWriter.checkpoint
    monkeypatch.setattr(RunWriter, "checkpoint", lambda writer, *page: pages.append(page) or write(writer, *page))
    watch = Watch(Takes(depth, size, channels_last=channels_last), probe, logdir=tmp_path, every=1)
    report = watch(0)
    watch.close()
    clips, maps = pages[0][1], decode_maps(pages[0][2].maps)
    assert len(report.targets["greedy"].stack) == depth
    assert report.targets["greedy"].objects["paddle"].lift > 0
    assert report.trust
    assert set(clips) == {"greedy", "contrast"}
    assert maps.levels["greedy"].shape[1:] == (depth, *size)
    assert report.probe != probe.digest


def test_a_picture_is_that_of_gymnasiums_preprocessing_at_the_same_size():
    game = gymnasium.make("ALE/Breakout-v5", frameskip=1, repeat_action_probability=0.0)
    env = gymnasium.wrappers.AtariPreprocessing(game, screen_size=(80, 105), noop_max=0)
    env.reset(seed=0)
    palette = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 4, axis=1)
    for _ in range(20):
        seen = env.step(1)[0]
        pictures = screen.pictures(np.stack(env.obs_buffer)[None], palette, (105, 80))
        np.testing.assert_array_equal(pictures[0], seen)


def test_a_mask_covers_what_its_object_changes_at_every_size():
    for size, box in product(screen.SIZES, (screen.Box(99, 100, 2, 4), screen.Box(8, 57, 8, 6))):
        plate = np.zeros((210, 160), np.float32)
        plate[box.y : box.y + box.h, box.x : box.x + box.w] = 255
        changed = cv2.resize(plate, size[::-1], interpolation=cv2.INTER_AREA) > 0
        assert (screen.mask([box], 210, size=size, dilation=0) >= changed).all()


def test_a_deeper_stack_holds_the_frames_that_were_recorded_before(probe):
    rows = {key: index for index, key in enumerate(zip(probe.segment.tolist(), probe.step.tolist(), strict=True))}
    deep = probe.seen(8, (84, 84))
    for index, (segment, step) in enumerate(zip(deep.segment.tolist(), deep.step.tolist(), strict=True)):
        np.testing.assert_array_equal(deep.stack[index, 4:], probe.stack[rows[segment, step]])
        if (segment, step - 4) in rows:
            np.testing.assert_array_equal(deep.stack[index, :4], probe.stack[rows[segment, step - 4]])
    assert 0 < len(deep) < len(probe)
    assert deep.placed is probe.placed


def test_a_stack_that_no_segment_holds_is_refused(probe):
    with pytest.raises(ValueError, match="must hold 20 frames in a row"):
        probe.seen(20, (84, 84))


@pytest.mark.parametrize("depth", [3, 6])
def test_channels_that_may_be_colours_are_refused_unless_said_to_be_grey(probe, depth):
    with pytest.raises(ValueError, match=f"{depth} channels, which may be colours: .*seen\\({depth}, "):
        matched(Takes(depth, (84, 84)), probe)
    told = probe.seen(depth, (84, 84))
    assert matched(Takes(depth, (84, 84)), told)[0] is told


def test_a_network_that_makes_its_channels_of_pixels_is_told_what_may_stand_before_it(probe):
    with pytest.raises(ValueError, match=r"64 frames in a row(.|\n)*before its first layer.* pixels of rlwatch.unwrap"):
        matched(nn.Sequential(nn.PixelUnshuffle(4), Takes(64, (21, 21))), probe)


OTHER_PICTURES = {
    "transposed": (lambda frames: frames.transpose(2, 3), r"changes at pixel 26.5, 47.5 \(y, x\) .* at 47.5, 26.5"),
    "mirrored": (lambda frames: frames.flip(3), "changes at pixel 26.5, 47.5"),
    "shifted": (lambda frames: frames.roll(3, 3), r"changes at pixel 26.5, 47.5 .* at 26.5, 50.5"),
    "newest first": (lambda frames: frames.flip(1), "number 1 changes, number 4 of what"),
}


@pytest.mark.parametrize("other", OTHER_PICTURES)
def test_pictures_in_another_place_or_order_than_the_probes_are_refused(tmp_path, probe, other):
    observe, said = OTHER_PICTURES[other]
    with pytest.raises(ValueError, match=said):
        Watch(Nature(), probe, logdir=tmp_path, observe=observe)


class Running:
    """Statistics that an environment keeps of its frames."""

    def __init__(self):
        self.mean, self.asked = np.full((84, 84), 20.0), 0

    def __call__(self, frames):
        self.asked += 1
        return (frames.float() - torch.as_tensor(self.mean, dtype=torch.float32)) / 50


def test_what_observe_knows_may_change_and_is_that_of_the_checkpoint(tmp_path, probe):
    torch.manual_seed(0)
    network, running = Nature().body, Running()

    def reports(network, **settings):
        running.mean = np.full((84, 84), 20.0)
        with Watch(network, probe, logdir=tmp_path / str(len(settings)), every=1, **settings) as watch:
            for step in range(2):
                running.mean = running.mean + 10 * step
                report = next(filter(None, (watch(step) for _ in iter(lambda: time.sleep(0.01), 0))))
                yield {**report.as_json(), "cost": None}

    outside = list(reports(network, observe=running, where="process"))
    assert running.asked == 0
    assert outside == list(reports(Read(network, lambda network, frames: network(running(frames)))))
    assert outside[0]["q"] != outside[1]["q"]


def test_observe_may_be_of_an_agent_that_holds_the_network(probe):
    agent = nn.ModuleDict({"network": Nature().body})
    network, _ = behind(agent["network"], lambda frames: frames.float() / (len(agent) * 255), probe)
    fresh = untrained(network, seed=0)
    assert not torch.equal(next(fresh.parameters()), next(agent.parameters()))


def test_observe_may_take_frames_through_numpy(tmp_path, probe):
    network = Nature().body
    with Watch(
        network, probe, logdir=tmp_path, observe=lambda x: torch.from_numpy(x.numpy() / np.float32(255))
    ) as watch:
        assert watch(0) is not None


class Augmenting(Nature):
    """A network that shifts its pictures while it trains, each by its own few pixels."""

    def forward(self, x):
        if self.training:
            shifts = torch.randint(-4, 5, (len(x),)).tolist()
            x = torch.stack([one.roll(shift, 2) for one, shift in zip(x, shifts, strict=True)])
        return super().forward(x)


def test_a_network_that_augments_its_pictures_is_explained_only_while_it_does_not(tmp_path, caplog, probe):
    with pytest.raises(ValueError, match=r"augments its pictures while it trains, pass Read\("):
        Watch(Augmenting(), probe, logdir=tmp_path)
    network = Augmenting().eval()
    watch = Watch(network, probe, logdir=tmp_path, every=1)
    assert watch(0) is not None
    assert watch(network.train() and 1) is None
    watch.close()
    assert "augments its pictures while it trains" in caplog.text


@pytest.mark.parametrize(
    "prepare",
    [lambda x: x[:, 1:] - x[:, :-1], lambda x: (x - x.mean((2, 3), keepdim=True)) / 50, lambda x: x / 127.5 - 1],
)
def test_pictures_that_are_scaled_or_compared_within_the_stack_are_in_their_place(tmp_path, probe, prepare):
    class Preparing(Nature):
        def forward(self, x):
            prepared = prepare(x.float())
            return self.body(torch.cat([x[:, : 4 - prepared.shape[1]], prepared], 1))

    Watch(Preparing(), probe, logdir=tmp_path, method="epsilon_plus").close()


@pytest.mark.usefixtures("types_unchecked")
def test_a_network_that_cannot_be_asked_is_refused_for_what_it_is(probe):
    lazy = nn.Sequential(nn.LazyConv2d(8, 8, 4), nn.Flatten(), nn.LazyLinear(4))
    with pytest.raises(ValueError, match="LazyConv2d has no weights yet: call the network once"):
        matched(lazy, probe)
    for wrong in (None, {}, nn.Linear):
        with pytest.raises(TypeError, match="expected the network that the training calls, got"):
            matched(wrong, probe)
    for several in ({"agent_0": Nature()}, [Nature()], nn.ModuleDict({"pong": Nature()}), nn.ModuleList([Nature()])):
        with pytest.raises(TypeError, match=r"got a \w+ of 1: pass one of them"):
            matched(several, probe)


def test_a_size_that_nobody_uses_is_refused_with_what_was_tried(probe):
    with pytest.raises(ValueError, match=r"Stacks of 4 in 84 × 84, 64 × 64, .* were tried as well: .*\.seen\("):
        matched(Takes(4, (50, 50)), probe)
    assert matched(Takes(4, (50, 50)), probe.seen(4, (50, 50)))[0].observations(1).shape == (1, 4, 50, 50)


def test_a_probe_is_the_same_whichever_way_it_is_seen_when_it_is_saved(tmp_path, probe):
    assert probe.seen(4, (84, 84)).digest == probe.digest
    probe.seen(4, (64, 64)).save(tmp_path / "seen.npz")
    assert Probe.load(tmp_path / "seen.npz").digest == probe.digest != probe.seen(4, (64, 64)).digest


def test_a_saved_network_for_other_pictures_is_read(tmp_path, probe):
    torch.manual_seed(0)
    network = Nature()
    network.body[0], network.body[7] = nn.Conv2d(2, 32, 8, 4), nn.Linear(64 * 9 * 6, 512)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    seen = probe.seen(2, (105, 80))
    frames = torch.from_numpy(seen.observations(3))
    read = load(tmp_path / "model.pt").network
    torch.testing.assert_close(read(frames), network(frames))
    assert matched(read, probe)[0].digest == seen.digest
