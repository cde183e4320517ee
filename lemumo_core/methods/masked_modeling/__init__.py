"""Masked modelling of image and companion together (MultiMAE, arXiv 2204.01678)."""
