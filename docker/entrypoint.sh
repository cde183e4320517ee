#!/bin/bash
# Start the node with the arguments of perception.launch.py, or another command that is given.
set -e
. "/opt/ros/$ROS_DISTRO/setup.bash"
export AMENT_PREFIX_PATH="$VIRTUAL_ENV:$AMENT_PREFIX_PATH"
case "$1" in
    *:=* | "") exec ros2 launch lemumo_ros perception.launch.py "$@" ;;
    *) exec "$@" ;;
esac
