"""Model packages, the backends that run them, and the pipeline from frame to perception."""
