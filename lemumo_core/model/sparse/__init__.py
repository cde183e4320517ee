"""Sparse 3D convolution in plain PyTorch, and networks on voxels."""
