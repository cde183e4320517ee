# The node on a Jetson with JetPack 6 (Ubuntu 22.04, so ROS 2 Humble), with JetPack's TensorRT. On the
# Jetson, from the root of a clone:
#   docker build -f docker/jetson.Dockerfile -t lemumo:jetson .
#   docker run --rm --runtime nvidia --network host --ipc host -v lemumo-cache:/root/.cache/lemumo lemumo:jetson
FROM nvcr.io/nvidia/l4t-jetpack:r36.4.0
ARG ROS_DISTRO=humble
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8

# The distribution's own versions, which follow its security updates.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends curl gnupg python3-libnvinfer python3-venv \
    && curl -fsSL https://raw.githubusercontent.com/ros/rosdistro/master/ros.key \
        -o /usr/share/keyrings/ros-archive-keyring.gpg \
    && echo "deb [signed-by=/usr/share/keyrings/ros-archive-keyring.gpg] http://packages.ros.org/ros2/ubuntu jammy main" \
        > /etc/apt/sources.list.d/ros2.list \
    && apt-get update \
    && apt-get install -y --no-install-recommends \
        ros-${ROS_DISTRO}-cv-bridge \
        ros-${ROS_DISTRO}-ros-base \
        ros-${ROS_DISTRO}-vision-msgs \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/lemumo
COPY . .
# TensorRT comes with JetPack: the extra gpu would bring wheels for other machines.
RUN . "/opt/ros/${ROS_DISTRO}/setup.bash" \
    && python3 -m venv --system-site-packages /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir -c tools/apt_ros_constraints.txt '.[bags,video,clouds]'

ENV VIRTUAL_ENV=/opt/venv PATH=/opt/venv/bin:$PATH ROS_DISTRO=${ROS_DISTRO}
ENTRYPOINT ["/opt/lemumo/docker/entrypoint.sh"]
CMD ["model:=lemumo-tiny", "backend:=auto"]
