"""Cameras, rigid transforms and boxes, in NumPy."""
