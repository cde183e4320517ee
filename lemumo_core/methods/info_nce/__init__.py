"""InfoNCE between image and companion (ImageBind, arXiv 2305.05665)."""
