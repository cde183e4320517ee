# The node on a desktop GPU: TensorRT and ONNX Runtime's CUDA provider. From the root of a clone:
#   docker build -f docker/gpu.Dockerfile -t lemumo:gpu .
#   docker run --rm --gpus all --network host --ipc host -v lemumo-cache:/root/.cache/lemumo lemumo:gpu
# The volume keeps the engines, which are built on the first start for the GPU that is there.
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
# onnxruntime-gpu takes the place of onnxruntime, whose folder it shares.
RUN . "/opt/ros/${ROS_DISTRO}/setup.bash" \
    && python3 -m venv --system-site-packages /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir -c tools/apt_ros_constraints.txt '.[bags,video,clouds,gpu]' \
    && /opt/venv/bin/pip uninstall -y onnxruntime \
    && /opt/venv/bin/pip install --no-cache-dir -c tools/apt_ros_constraints.txt 'onnxruntime-gpu[cuda,cudnn]<2'

ENV VIRTUAL_ENV=/opt/venv PATH=/opt/venv/bin:$PATH \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
ENTRYPOINT ["/opt/lemumo/docker/entrypoint.sh"]
CMD ["model:=lemumo-tiny", "backend:=auto"]
