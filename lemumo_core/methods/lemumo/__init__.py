"""Le MuMo JEPA (arXiv 2603.24327), and what we add to it."""
