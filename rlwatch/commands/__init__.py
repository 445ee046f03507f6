"""Commands of `rlwatch` that have a module of their own."""
