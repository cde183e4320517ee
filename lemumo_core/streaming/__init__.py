"""Parts that node and replay share: camera inputs, synchronization, health."""
