"""Fine-tuning of a 3D network on labelled LiDAR points, and its linear probe."""
