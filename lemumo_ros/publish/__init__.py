"""Perceptions to ROS messages, and their publishers."""
