"""Adaptation of a package's model to a robot, from its recordings, without a label."""
