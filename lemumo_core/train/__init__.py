"""Training: loop, checkpoints, data loading, run folder."""
