"""CMCR (arXiv 2412.08973): a 3D network learns from images and from itself."""
