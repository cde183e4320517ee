"""The ROS 2 node, its publishers and the bag player."""
