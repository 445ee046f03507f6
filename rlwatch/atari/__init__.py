"""The game's side: what was played, what stands on the screen, and how an agent sees it."""
