"""The many names of a game."""

import re


def plain(game: str) -> str:
    """A game's name as lower-case letters and digits, without what environment ids put around it."""
    bare = re.sub(r"^ALE/|(-ram)?(NoFrameskip|Deterministic)?-v\d+$", "", game)
    return re.sub(r"[^a-z0-9]", "", bare.lower())
