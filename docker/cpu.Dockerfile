# The node on ROS 2 from apt, on a CPU. From the root of a clone:
#   docker build -f docker/cpu.Dockerfile --build-arg ROS_DISTRO=jazzy -t lemumo:cpu .
#   docker run --rm --network host --ipc host lemumo:cpu model:=lemumo-tiny image:=/camera/image_raw
ARG ROS_DISTRO=jazzy
FROM ros:${ROS_DISTRO}-ros-base
ARG ROS_DISTRO
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# The distribution's own versions, which follow its security updates.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        python3-venv \
        ros-${ROS_DISTRO}-cv-bridge \
        ros-${ROS_DISTRO}-vision-msgs \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/lemumo
COPY . .
RUN . "/opt/ros/${ROS_DISTRO}/setup.bash" \
    && python3 -m venv --system-site-packages /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir -c tools/apt_ros_constraints.txt '.[bags,video,clouds]'

ENV VIRTUAL_ENV=/opt/venv PATH=/opt/venv/bin:$PATH
ENTRYPOINT ["/opt/lemumo/docker/entrypoint.sh"]
CMD ["model:=lemumo-tiny"]
