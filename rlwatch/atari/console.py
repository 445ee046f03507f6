"""One emulator, and what it shows from one agent step to the next."""

import difflib
import hashlib
from collections import deque
from typing import NamedTuple

import numpy as np
from ale_py import ALEInterface, LoggerMode, roms
from jaxtyping import UInt8

from rlwatch.atari.names import plain

NOOP = 0


class Sight(NamedTuple):
    """What there is to see after some raw frames, and how it came about.

    `screens`: the last two raw screens as palette indices; one raw frame alone stands twice, as in gymnasium. `ram`:
    the memory after the last three raw frames. `action`, the emulator's number, held for `held` raw frames from `state`
    led here and earned `reward`.
    """

    screens: UInt8[np.ndarray, "2 y x"]
    ram: UInt8[np.ndarray, "3 128"]
    lives: int
    over: bool
    action: int
    held: int
    state: bytes
    reward: float


class Console:
    """The emulator with one game in it.

    `actions`: names of the minimal action set. `palette`: red, green, blue and grey of each colour index shown so far.

    Raises: ValueError when ale-py has no such game.
    """

    def __init__(self, game: str, *, seed: int, repeat_action_probability: float) -> None:
        ALEInterface.setLoggerMode(LoggerMode.Error)
        self.game = short_name(game)
        self._ale = ALEInterface()
        self._ale.setInt("random_seed", seed)
        self._ale.setFloat("repeat_action_probability", repeat_action_probability)
        rom = roms.get_rom_path(self.game)
        if rom is None or self._ale.isSupportedROM(rom) is None:
            raise ValueError(f"expected a game that ale-py plays, got {self.game}, whose ROM it refuses: take another")
        self._ale.loadROM(rom)
        self._sticky = repeat_action_probability > 0
        self._known = np.zeros(256, bool)
        self._rams: deque[np.ndarray] = deque(maxlen=3)
        self.rom_md5 = hashlib.md5(rom.read_bytes(), usedforsecurity=False).hexdigest()
        self.palette = np.zeros((256, 4), np.uint8)
        self._minimal = self._ale.getMinimalActionSet()
        self.actions = tuple(action.name for action in self._minimal)

    def number(self, action: int) -> int:
        """The emulator's number of an action of the minimal set."""
        return int(self._minimal[action].value)

    def reset(self, noops: int) -> Sight:
        """What a new episode shows after `noops` idle raw frames, one at least."""
        self._ale.reset_game()
        self._rams.extend([self._ale.getRAM()] * 3)
        for _ in range(noops - 1):
            self._act(NOOP)
        return self.advance(NOOP, 1)

    def advance(self, action: int, held: int) -> Sight:
        """What is to be seen when the emulator's action is held for some raw frames; game over cuts it short."""
        state = self._ale.cloneState(include_rng=self._sticky).serialize()
        reward, screens = 0.0, []
        for raw in range(held):
            reward += self._act(action)
            if raw >= held - 2:
                screens.append(self._screen())
            if self._ale.game_over():
                break
        if len(screens) != 2:  # noqa: PLR2004 - one raw frame alone, or none
            screens = [self._screen()] * 2
            self._rams.append(self._rams[-1])
        return Sight(
            screens=np.stack(screens),
            ram=np.stack(self._rams),
            lives=self._ale.lives(),
            over=self._ale.game_over(),
            action=action,
            held=held,
            state=state,
            reward=reward,
        )

    def _act(self, action: int) -> float:
        reward = float(self._ale.act(action))
        self._rams.append(self._ale.getRAM())
        return reward

    def _screen(self) -> UInt8[np.ndarray, "y x"]:
        screen: UInt8[np.ndarray, "y x"] = self._ale.getScreen()
        shown = np.flatnonzero(np.bincount(screen.ravel(), minlength=256))
        if not self._known[shown].all():
            self.palette[screen] = np.dstack([self._ale.getScreenRGB(), self._ale.getScreenGrayscale()])
            self._known[shown] = True
        return screen


def short_name(game: str) -> str:
    """The short name of a game: "ms_pacman" for "MsPacmanNoFrameskip-v4", "ALE/MsPacman-v5" and "ms_pacman".

    Raises: ValueError when ale-py has no such game; the message names near ones.
    """
    known = {plain(name): name for name in roms.get_all_rom_ids()}
    if plain(game) not in known:
        near = [known[one] for one in difflib.get_close_matches(plain(game), known, n=3)]
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(sorted(known.values()))}"
        raise ValueError(f"expected a game of ale-py such as breakout or ALE/Breakout-v5, got {game!r}: {hint}")
    return known[plain(game)]
