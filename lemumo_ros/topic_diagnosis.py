"""Diagnose a topic on which nothing arrives, from what the ROS graph knows of its publishers."""

from __future__ import annotations

import os
from typing import Any

from rclpy.qos import QoSCompatibility, qos_check_compatible

from lemumo_ros.transport import VARIABLES


def diagnose_topic(node: Any, subscription: Any, received_before: bool) -> str:
    """Return why a subscription gets no message, and the cure.

    Args:
        node: rclpy node that owns the subscription.
        subscription: rclpy subscription.
        received_before: whether a message came before.
    """
    topic = subscription.topic_name
    publishers = node.get_publishers_info_by_topic(topic)
    wanted = _type_name(subscription.msg_type)
    if not publishers:
        others = [name for name, types in node.get_topic_names_and_types() if wanted in types]
        own = f"{node.get_fully_qualified_name()}/"
        others = [n for n in others if node.count_publishers(n) and not n.startswith(own)]
        known = (
            f"{wanted} is published on {', '.join(sorted(others))}: remap"
            if others
            else (
                f"nobody publishes any {wanted}: start the driver, or look at ROS_DOMAIN_ID and "
                "ROS_AUTOMATIC_DISCOVERY_RANGE"
            )
        )
        return f"no publisher on {topic}; {known} (ros2 topic list -t)"
    fitting = [publisher for publisher in publishers if publisher.topic_type == wanted]
    if not fitting:
        return (
            f"{topic} carries {publishers[0].topic_type}, not {wanted}: remap, or set "
            "image_transport"
        )
    reasons = []
    for publisher in fitting:
        verdict, reason = qos_check_compatible(publisher.qos_profile, subscription.qos_profile)
        if verdict != QoSCompatibility.ERROR:
            break
        reasons.append(reason.strip())
    else:
        return (
            f"the publisher's QoS on {topic} does not fit: {reasons[0]} Set the node's parameters "
            f"qos_overrides.{topic}.subscription.* to it (ros2 topic info -v {topic})"
        )
    if received_before:
        return f"{topic} still has its publisher, which sends nothing (ros2 topic hz {topic})"
    profile = next((os.environ[name] for name in VARIABLES if name in os.environ), "")
    return (
        f"{topic} has a publisher whose type and QoS fit, but no message comes through. Either it "
        "sends nothing, or its messages are too large for its transport: start it with "
        f"{VARIABLES[0]}={profile or 'config/fastdds.xml of this package'} too, and look at the "
        f"free space of /dev/shm (ros2 topic hz {topic}; df -h /dev/shm)"
    )


def _type_name(message_type: Any) -> str:
    """Return the type's name, e.g. ``sensor_msgs/msg/Image``."""
    package, _, _ = message_type.__module__.partition(".")
    return f"{package}/msg/{message_type.__name__}"
