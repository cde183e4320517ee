"""Heads on the encoder's tokens, one module a task."""
