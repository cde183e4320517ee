"""Frames into training samples: sources, views of a frame, shards."""
