"""lemumo's core: frames, geometry, the model and its runtimes. Knows nothing of ROS."""
