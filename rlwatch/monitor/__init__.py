"""What becomes of a checkpoint: it is matched, explained, measured, held against earlier ones, told and written."""
