"""The probes that ship with the package: what is in them, and how they are found."""

from pathlib import Path

import pytest

from rlwatch.atari import objects, probe_file
from rlwatch.atari.probe import Probe
from rlwatch.atari.recording import record

SHIPPED = probe_file.shipped()


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
