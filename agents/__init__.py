"""Training programs, one file each; they import rlwatch, never the other way round."""
