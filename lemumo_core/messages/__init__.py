"""ROS messages to NumPy arrays and core types, one module a kind of message.

Functions look only at message fields, so rclpy messages (``data`` is an array.array) and rosbags'
dataclasses (a read-only NumPy array) give equal results, and no ROS is needed. Whatever a message
claims is checked before memory is allocated for it; a message that cannot be used is a ``Fault``.
"""
