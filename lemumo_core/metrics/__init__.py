"""Metrics of depth, detection, segmentation and representations, in NumPy."""
