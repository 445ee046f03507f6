import json
import pickle
import resource
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rlwatch.atari import objects, probe_file, screen, sheet
from rlwatch.atari.choose import choose, record_probe
from rlwatch.atari.probe import Probe
from rlwatch.atari.recording import record

SHIPPED = probe_file.shipped()


@pytest.fixture(scope="module")
def recording():
    return record("breakout", steps=2000, seed=4)


@pytest.fixture(scope="module")
def probe(recording):
    return choose(recording, segments=8, length=8, generator=np.random.default_rng(0))


@pytest.fixture
def file(probe, tmp_path):
    probe.save(tmp_path / "probe.npz")
    return tmp_path / "probe.npz"


def rewrite(file, **members):
    """The file anew, with some members replaced by arrays, or left out where the array is None."""
    with np.load(file) as archive:
        old = {name: archive[name] for name in archive.files}
    np.savez_compressed(file, **{name: array for name, array in (old | members).items() if array is not None})


def words(file, **changes):
    """The words of the file with some changed, as the array that holds them."""
    with np.load(file) as archive:
        return np.frombuffer(json.dumps(json.loads(archive["words"].tobytes()) | changes).encode(), np.uint8)


def test_twelve_games_and_more_ship():
    assert {"breakout", "pong", "space_invaders", "ms_pacman", "seaquest", "boxing", "freeway", "qbert"} <= set(SHIPPED)
    assert len(SHIPPED) >= 12


@pytest.mark.parametrize("game", SHIPPED)
def test_a_shipped_probe_holds_256_observations_of_eight_episodes_or_more_from_early_to_late(game):
    probe = Probe.load(game)
    assert probe.observations().shape == (256, 4, 84, 84)
    assert probe.rgb().shape == (256, 210, 160, 3)
    assert len(set(probe.episode)) >= 8
    assert {"early", "mid", "late"} <= set(probe.situations)
    assert Path(probe_file.locate(game)).stat().st_size < 400_000


@pytest.mark.parametrize("game", sorted(objects.MAPS))
def test_in_a_shipped_probe_every_object_with_a_map_is_on_screen_in_a_third_of_the_observations(game):
    probe = Probe.load(game)
    assert list(probe.visible()) == list(probe.masks())
    assert min(probe.visible().values()) >= len(probe) / 3


@pytest.mark.parametrize("game", sorted(set(SHIPPED) - set(objects.MAPS)))
def test_a_shipped_probe_without_a_map_says_how_it_was_made(game):
    assert {"policy", "seed", "steps"} <= set(Probe.load(game).metadata)


@pytest.mark.parametrize("game", ["space_invaders", "boxing", "qbert"])
def test_in_a_shipped_probe_without_a_map_most_of_what_stands_out_has_a_name(game):
    probe = Probe.load(game)
    assert probe.placed.steady > 0.9
    assert probe.placed.named > 0.85
    assert all(mask.mean() < 0.25 for mask in probe.masks().values())


def test_the_breakout_probe_shows_the_tunnel_and_the_ball_on_every_height():
    probe = Probe.load("breakout")
    situations = objects.find("breakout").situations(probe.ram[probe.stack[:, -1], -1])
    assert "tunnel" in probe.situations
    assert {"0", "1", "2", "3"} <= set(situations["height"])


@pytest.mark.real
@pytest.mark.parametrize("game", SHIPPED)
def test_a_shipped_probe_is_of_the_rom_that_ale_py_brings(game):
    made = record(game, steps=8, seed=0)
    probe = Probe.load(game)
    assert (made.game, made.actions) == (probe.game, probe.actions)
    assert made.metadata["rom_md5"] == probe.metadata["rom_md5"]


@pytest.mark.parametrize("name", ["breakout", "ALE/Breakout-v5", "BreakoutNoFrameskip-v4"])
def test_a_shipped_probe_is_found_by_each_name_of_its_game(name):
    assert Probe.load(name).game == "breakout"


def test_what_is_neither_file_nor_shipped_is_refused_with_what_ships():
    with pytest.raises(FileNotFoundError, match=r"breakout, .*pong.*rlwatch record frobnicate --out FILE"):
        Probe.load("frobnicate")


@pytest.mark.real
def test_the_same_arguments_make_the_same_probe_and_another_seed_another():
    made, again, other = (
        record_probe("pong", steps=1200, seed=seed, segments=4, length=8).digest for seed in (0, 0, 1)
    )
    assert made == again
    assert made != other


@pytest.mark.real
def test_segments_are_runs_of_one_episode_and_no_episode_gives_more_than_an_eighth(probe):
    assert len(probe) == 64
    for segment in range(8):
        own = probe.segment == segment
        assert own.sum() == 8
        assert len(set(probe.episode[own])) == 1
        assert (np.diff(probe.step[own]) == 1).all()
    assert len(set(probe.episode)) == 8


@pytest.mark.real
def test_a_probe_holds_what_the_recording_holds_at_its_steps(recording, probe):
    steps = [
        int(np.flatnonzero((recording.episode == episode) & (recording.step == step))[0])
        for episode, step in zip(probe.episode, probe.step, strict=True)
    ]
    for name in ("action", "reward", "score", "lives"):
        np.testing.assert_array_equal(getattr(probe, name), getattr(recording, name)[steps])
    stacked = recording.stacks(np.array(steps))
    np.testing.assert_array_equal(
        probe.screens[probe.stack].reshape(-1, 2, 210, 160), recording.screens(stacked.ravel())
    )
    np.testing.assert_array_equal(probe.ram[probe.stack], recording.ram[stacked])
    assert [bytes(state) for state in probe.states[probe.stack[:, -1]]] == recording.states(np.array(steps))


@pytest.mark.real
def test_a_recording_that_is_too_short_is_refused(recording):
    with pytest.raises(ValueError, match=r"expected 500 stretches of 16 steps.*record more steps"):
        choose(recording, segments=500, length=16, generator=np.random.default_rng(0))


@pytest.mark.real
def test_a_mask_is_the_union_over_both_pooled_raw_frames_of_its_own_stacked_frame(probe):
    masks = probe.masks(dilation=1)
    mapped = objects.find("breakout")
    for index, channel in [(0, 0), (5, 3), (20, 1), (40, 2), (63, 3)]:
        frame = probe.stack[index, channel]
        for name in ("ball", "paddle", "bricks"):
            both = [box for raw in (1, 2) for box in mapped.boxes(probe.ram[frame, raw])[name]]
            np.testing.assert_array_equal(masks[name][index, channel], screen.mask(both, 210, dilation=1))
    moving = masks["ball"][:, 0] != masks["ball"][:, 3]
    assert moving.any(axis=(1, 2)).mean() > 0.9


@pytest.mark.real
def test_boxes_are_those_of_the_newest_raw_frame(probe):
    for boxes, frame in zip(probe.boxes(), probe.stack[:, -1], strict=True):
        assert boxes == objects.find("breakout").boxes(probe.ram[frame, 2])


@pytest.mark.real
def test_an_object_is_visible_where_a_stacked_frame_holds_a_pixel_of_it(probe):
    masks = probe.masks(dilation=0)
    assert probe.visible() == {name: int(mask.any(axis=(1, 2, 3)).sum()) for name, mask in masks.items()}


@pytest.mark.real
def test_a_game_without_a_map_has_the_objects_that_stand_out_from_its_background():
    probe = record_probe("freeway", steps=400, segments=4, length=8)
    assert {"moving-1", "moving-2"} <= set(probe.masks())
    assert all(set(boxes) == set(probe.masks()) for boxes in probe.boxes())
    assert probe.visible() == {name: int(mask.any(axis=(1, 2, 3)).sum()) for name, mask in probe.masks().items()}
    assert probe.contact_sheet().ndim == 3


@pytest.mark.real
def test_a_probe_of_a_taller_screen_works(tmp_path):
    probe = record_probe("journey_escape", steps=400, segments=4, length=8)
    probe.save(tmp_path / "tall.npz")
    assert Probe.load(tmp_path / "tall.npz").rgb().shape == (32, 230, 160, 3)


@pytest.mark.real
def test_arrays_are_read_only(probe):
    for name, array in probe.arrays().items():
        assert not array.flags.writeable, name


def test_no_two_objects_of_a_sheet_share_a_colour_and_a_name_stands_at_its_box():
    assert len({sheet.colour_of(index) for index in range(40)}) == 40
    black = np.zeros((1, 210, 160, 3), np.uint8)
    boxes = {
        "ball": (screen.Box(40, 50, 2, 4),),
        "paddle": (screen.Box(40, 60, 16, 4),),
        "tiny": (screen.Box(41, 56, 1, 1),),
    }
    drawn = sheet.draw("title", black, [boxes], ["label"], dict.fromkeys(boxes, 1))[110 : 110 + 420, 16 : 16 + 320]
    for index, (_, (box,)) in enumerate(boxes.items()):
        above, below = drawn[2 * box.y - 11 : 2 * box.y - 3], drawn[2 * (box.y + box.h) + 3 : 2 * (box.y + box.h) + 12]
        beside = [(part[:, 2 * box.x :] == sheet.PAPER).all(axis=2).any() for part in (above, below)]
        assert any(beside) == (index < 2)


@pytest.mark.real
def test_the_contact_sheet_shows_each_segments_screen_with_its_outlines():
    probe = Probe.load("breakout")
    drawn = probe.contact_sheet()
    middle = int(np.median(np.flatnonzero(probe.segment == 0)))
    ball = probe.boxes()[middle]["ball"][0]
    picture = drawn[110 : 110 + 420, 16 : 16 + 320]
    colours = screen.rgb(probe.screens[probe.stack[middle, -1], 1], probe.palette)
    np.testing.assert_array_equal(picture[2 * ball.y, 2 * ball.x], colours[ball.y, ball.x])
    np.testing.assert_array_equal(
        picture[2 * ball.y - 1, 2 * ball.x - 1], sheet.colour_of(list(probe.visible()).index("ball"))
    )
    np.testing.assert_array_equal(picture[300, 100], colours[150, 50])


@pytest.mark.real
def test_a_saved_probe_comes_back_whole_and_nothing_else_is_left(probe, file):
    loaded = Probe.load(file)
    assert loaded.digest == probe.digest
    assert (loaded.game, loaded.actions, loaded.situations) == (probe.game, probe.actions, probe.situations)
    assert loaded.metadata == probe.metadata
    for name, array in probe.arrays().items():
        np.testing.assert_array_equal(getattr(loaded, name), array)
    assert [entry.name for entry in file.parent.iterdir()] == ["probe.npz"]


@pytest.mark.real
def test_saving_twice_writes_the_same_bytes(probe, file):
    before = file.read_bytes()
    probe.save(file)
    assert file.read_bytes() == before


@pytest.mark.real
def test_a_save_that_fails_halfway_leaves_the_file_that_was_there_and_nothing_else(probe, file):
    before = file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            probe.save(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.read_bytes() == before
    assert [entry.name for entry in file.parent.iterdir()] == ["probe.npz"]


@pytest.mark.real
@pytest.mark.parametrize("name", ["screens", "ram", "states", "led_by", "stack", "reward", "palette", "background"])
def test_the_digest_depends_on_every_array(probe, name):
    array = getattr(probe, name).copy()
    array.ravel()[0] = 0 if array.ravel()[0] else 1
    assert replace(probe, **{name: array}).digest != probe.digest


@pytest.mark.real
def test_the_digest_depends_on_the_words(probe):
    assert replace(probe, metadata={**probe.metadata, "seed": "77"}).digest != probe.digest


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("stack", np.full((64, 4), 99_999), "stack must hold numbers from 0"),
        ("stack", np.full((64, 4), -1), "stack must hold numbers from 0"),
        ("action", np.full(64, 4), "action must hold numbers from 0 to 3"),
        ("held", np.full(88, 1000), "held must hold numbers from 0 to 4"),
        ("segment", np.zeros(64, int), "a segment must be a run"),
        ("step", np.zeros(64, int), "a segment must be a run"),
    ],
)
def test_numbers_that_point_nowhere_are_refused_in_a_probe_and_in_a_file(probe, file, name, values, message):
    with pytest.raises(ValueError, match=message):
        replace(probe, **{name: values})
    rewrite(file, **{name: values})
    with pytest.raises(ValueError, match=f"no whole probe .*{message}.*{probe_file.REMEDY}"):
        Probe.load(file)


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("action", np.zeros(63, int), r"must be Int64.*got int64 \(6"),
        ("ram", np.zeros((3, 3, 128), np.uint8), r"must be UInt8.*got uint8 \("),
        ("screens", np.zeros((1, 2, 210, 160), np.int16), "expected entries of bytes, got int16"),
        ("reward", np.zeros(64, np.float32), "reward must be Float64.*got float32"),
        ("extra", np.zeros(1), "expected the arrays palette, .*extra"),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused(file, name, values, message):
    rewrite(file, **{name: values})
    with pytest.raises(ValueError, match=f"probe .*{message}.*{probe_file.REMEDY}"):
        Probe.load(file)


@pytest.mark.real
def test_another_content_than_the_digest_says_is_refused(file, probe):
    rewrite(file, reward=probe.reward + 1)
    with pytest.raises(ValueError, match=f"expected digest {probe.digest}, got .*rlwatch record GAME --out FILE"):
        Probe.load(file)


@pytest.mark.real
@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"actions": 7},
        {"metadata": ["a"]},
        {"metadata": {"seed": 3}},
        {"game": None},
        {"situations": []},
        {"unknown": "x"},
    ],
)
def test_words_that_are_not_a_probes_are_refused(file, changes):
    rewrite(file, words=words(file, **changes))
    with pytest.raises(ValueError, match=r"rlwatch record GAME --out FILE"):
        Probe.load(file)


@pytest.mark.real
@pytest.mark.parametrize("name", ["words", "screens", "episode"])
def test_a_file_that_lacks_a_part_is_refused(file, name):
    rewrite(file, **{name: None})
    with pytest.raises(ValueError, match=name):
        Probe.load(file)


class Explosive:
    def __reduce__(self):
        return (pytest.fail, ("a probe file was unpickled",))


@pytest.mark.real
def test_a_pickle_within_the_file_is_refused_and_never_run(file):
    with zipfile.ZipFile(file, "a") as archive:
        bomb = pickle.dumps(Explosive())
        header = {"descr": "|O", "fortran_order": False, "shape": (-(-len(bomb) // 8),)}
        with archive.open("evil.npy", "w") as member:
            np.lib.format.write_array_header_1_0(member, header)
            member.write(bomb.ljust(8 * header["shape"][0], b"."))
    with pytest.raises(ValueError, match="expected a plain array of object"):
        Probe.load(file)


@pytest.mark.real
def test_a_bare_pickle_is_refused_and_never_run(tmp_path):
    file = tmp_path / "evil.npz"
    file.write_bytes(pickle.dumps(Explosive()))
    with pytest.raises(ValueError, match="no readable probe"):
        Probe.load(file)


def test_a_file_that_inflates_to_too_much_is_refused_before_it_does(tmp_path):
    file = tmp_path / "bomb.npz"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("screens.npy", "w") as member:
        for _ in range(257):
            member.write(bytes(2**20))
    with pytest.raises(ValueError, match="expected at most 268,435,456 bytes once inflated"):
        Probe.load(file)


def test_a_header_that_promises_more_than_its_bytes_is_refused(tmp_path):
    file = tmp_path / "promise.npz"
    with zipfile.ZipFile(file, "w") as archive, archive.open("screens.npy", "w") as member:
        header = {"descr": "|u1", "fortran_order": False, "shape": (10**15,)}
        np.lib.format.write_array_header_1_0(member, header)
    with pytest.raises(ValueError, match=r"expected a plain array of uint8 .*got 0 bytes"):
        Probe.load(file)


def refusal(file):
    """What is said when a file is not loaded; "" when it is."""
    try:
        Probe.load(file)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.real
def test_truncated_and_corrupted_files_are_refused_with_a_reason(file):
    whole = np.frombuffer(file.read_bytes(), np.uint8)
    generator = np.random.default_rng(0)
    refusals = []
    for attempt in range(200):
        damaged = whole.copy()
        if attempt % 2:
            damaged = damaged[: generator.integers(len(whole))]
        else:
            places = generator.integers(len(whole), size=generator.integers(1, 20))
            damaged[places] = generator.integers(256, size=len(places))
        file.write_bytes(damaged.tobytes())
        refusals.append(refusal(file))
    assert all(str(file) in one and probe_file.REMEDY in one for one in refusals if one)
    assert sum(map(bool, refusals)) >= 190
