"""How each reinforcement learning framework meets a Watch; a file imports its framework, and rlwatch imports none."""
