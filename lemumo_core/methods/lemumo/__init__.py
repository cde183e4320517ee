"""Le MuMo JEPA: its projector, views, losses and monitors."""
