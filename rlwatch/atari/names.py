"""The many names of a game, and those of a joystick's actions."""

import re

_WAYS = ("UP", "RIGHT", "LEFT", "DOWN", "UPRIGHT", "UPLEFT", "DOWNRIGHT", "DOWNLEFT")
ACTIONS = ("NOOP", "FIRE", *_WAYS, *(f"{way}FIRE" for way in _WAYS))
"""The full set, in the emulator's order, for networks that do not keep to a game's own."""
MOST_ACTIONS = len(ACTIONS)
"""How many these are; no game has more."""


def plain(game: str) -> str:
    """A game's name as lower-case letters and digits, without what environment ids put around it."""
    bare = re.sub(r"^ALE/|(-ram)?(NoFrameskip|Deterministic)?-v\d+$", "", game)
    return re.sub(r"[^a-z0-9]", "", bare.lower())
