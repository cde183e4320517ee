"""Losses: pure functions and modules, tensors in, loss out."""
