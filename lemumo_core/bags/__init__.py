"""Bags: reading, index, topics, recovery of damaged files, writing."""
