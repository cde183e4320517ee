"""What node and replay share: camera inputs, synchronization, health."""
