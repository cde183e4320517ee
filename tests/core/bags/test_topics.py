"""Finding the topics of a camera and its companions."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("rosbags", reason="bags need: pip install '.[bags]'")


from lemumo_core.bags.missing_companion import describe_missing_companion
from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.topics import BagTopics, find_topics
from lemumo_core.faults import Fault


class FakeBag:
    """Topics given as (name, type, frame_id[, encoding])."""

    def __init__(self, *rows):
        self.rows = {row[0]: row for row in rows}
        self.topics = [
            SimpleNamespace(name=r[0], type=f"sensor_msgs/msg/{r[1]}", count=5, frame_id=r[2])
            for r in rows
        ]

    def first(self, name):
        return SimpleNamespace(encoding=[*self.rows[name], "rgb8"][3])


CLUTTER = (
    ("/camera/aligned_depth_to_color/image_raw", "Image", "cam", "16UC1"),
    ("/camera/range", "Image", "cam", "32FC1"),
    ("/camera/infra1/image_rect_raw", "Image", "infra", "mono8"),
    ("/camera/label_map", "Image", "cam", "mono8"),
    ("/ground_truth/image", "Image", "cam"),
    ("/lemumo/output/overlay", "Image", "cam"),
    ("/camera/depth/image_raw/compressedDepth", "CompressedImage", "cam", "16UC1; compressedDepth"),
    ("/lemumo/points", "PointCloud2", "lidar"),
    ("/perception/output/points", "PointCloud2", "cam"),
    ("/perception/output/depth/image_raw", "Image", "cam", "32FC1"),
)


def test_clutter_is_no_sensor():
    bag = FakeBag(
        *CLUTTER,
        ("/cam/image", "Image", "cam"),
        ("/cam/camera_info", "CameraInfo", "cam"),
        ("/points", "PointCloud2", "lidar"),
    )
    assert find_topics(bag) == BagTopics("/cam/image", "/cam/camera_info", "/points", None, None)
    with pytest.raises(Fault) as caught:
        find_topics(FakeBag(*CLUTTER))
    assert caught.value.reason == "no_camera"


def test_camera_info_by_namespace_then_by_frame():
    image = ("/a/image_rect/compressed", "CompressedImage", "front", "rgb8; jpeg compressed bgr8")
    beside = ("/a/camera_info", "CameraInfo", "elsewhere")
    same_frame = ("/b/info", "CameraInfo", "front")
    other = ("/c/info", "CameraInfo", "rear")
    assert find_topics(FakeBag(image, beside, same_frame, other)).camera_info == "/a/camera_info"
    assert find_topics(FakeBag(image, same_frame, other)).camera_info == "/b/info"
    with pytest.raises(Fault, match="--camera-info") as caught:
        find_topics(FakeBag(image, other))
    assert caught.value.reason == "no_camera_info"
    with pytest.raises(Fault, match="the bag has none: give one with --calibration"):
        find_topics(FakeBag(image))
    assert find_topics(FakeBag(image, other), camera_info="").camera_info is None
    assert find_topics(FakeBag(image, other), camera_info="/c/info").camera_info == "/c/info"


def test_thermal_is_not_the_color_camera():
    rows = (
        ("/rgb/image", "Image", "rgb"),
        ("/rgb/camera_info", "CameraInfo", "rgb"),
        ("/boson/image", "Image", "boson", "mono16"),
    )
    assert find_topics(FakeBag(*rows)) == BagTopics(
        "/rgb/image", "/rgb/camera_info", None, "/boson/image", None
    )


def test_ambiguity_lists_candidates_and_the_option():
    rows = [
        row
        for side in ("left", "right")
        for row in (
            (f"/{side}/image", "Image", side),
            (f"/{side}/image/compressed", "CompressedImage", side),
            (f"/{side}/camera_info", "CameraInfo", side),
        )
    ]
    with pytest.raises(Fault, match="/left/image, /right/image; choose one with --image") as caught:
        find_topics(FakeBag(*rows))
    assert caught.value.reason == "ambiguous_topics"
    assert find_topics(FakeBag(*rows), image="/right/image").camera_info == "/right/camera_info"

    rows = [*rows[:3], ("/a/points", "PointCloud2", "a"), ("/b/points", "PointCloud2", "b")]
    with pytest.raises(Fault, match="--points"):
        find_topics(FakeBag(*rows))
    assert find_topics(FakeBag(*rows), points="/b/points").points == "/b/points"
    assert find_topics(FakeBag(*rows), points="").points is None


def test_clouds_of_depth_cameras_are_taken_where_there_is_no_lidar():
    camera = (("/cam/image", "Image", "cam"), ("/cam/camera_info", "CameraInfo", "cam"))
    depth_cloud = ("/zed/zed_node/depth/cloud_registered", "PointCloud2", "cam")
    others = (
        ("/zed/depth/segmented/points", "PointCloud2", "cam"),
        ("/ground_truth/depth_points", "PointCloud2", "cam"),
    )
    assert find_topics(FakeBag(*camera, *others, depth_cloud)).points == depth_cloud[0]
    assert find_topics(FakeBag(*camera, *others)).points is None
    lidar = ("/ouster/points", "PointCloud2", "lidar")
    assert find_topics(FakeBag(*camera, depth_cloud, lidar)).points == lidar[0]
    second = ("/rear/depth/points", "PointCloud2", "rear")
    with pytest.raises(Fault, match="--points"):
        find_topics(FakeBag(*camera, depth_cloud, second))


def test_clouds_that_are_passed_over_are_named():
    camera = (("/cam/image", "Image", "cam"), ("/cam/camera_info", "CameraInfo", "cam"))
    odd = (("/os1/segmented", "PointCloud2", "os1"), ("/debug/ground", "PointCloud2", "os1"))
    truth = ("/ground_truth/points", "PointCloud2", "os1")
    bag = FakeBag(*camera, *odd, truth)
    words = describe_missing_companion(bag, "lidar", None)
    assert "/os1/segmented, /debug/ground were passed over" in words and "--points" in words
    assert truth[0] not in words
    assert describe_missing_companion(bag, "lidar", "") == ""
    assert find_topics(bag).points is None
    bag = FakeBag(*camera, truth)
    assert describe_missing_companion(bag, "lidar", None) == ""


def test_images_of_a_bag_without_a_camera_are_named_by_what_they_show():
    rows = (
        ("/d455/depth/image_rect_raw", "Image", "d455", "16UC1"),
        ("/boson/image", "Image", "boson", "mono16"),
        ("/front/image_raw", "Image", "front", "mono16"),
        ("/segmentation/mask", "Image", "d455", "mono8"),
    )
    with pytest.raises(Fault, match="no colour camera") as caught:
        find_topics(FakeBag(*rows))
    said = str(caught.value)
    assert "/d455/depth/image_rect_raw [sensor_msgs/msg/Image] x 5 (a depth image, 16UC1)" in said
    assert "/boson/image [sensor_msgs/msg/Image] x 5 (a thermal image, mono16)" in said
    assert "/front/image_raw [sensor_msgs/msg/Image] x 5 (mono16)" in said
    assert "/segmentation/mask [sensor_msgs/msg/Image] x 5 (mono8)" in said


def test_given_names_are_checked(small_bag):
    with BagReader(small_bag) as reader:
        with pytest.raises(
            Fault, match=r"--image /nope is not in the bag, which has .*/camera/image_raw"
        ) as caught:
            find_topics(reader, image="/nope")
        assert caught.value.reason == "unknown_topic"
        with pytest.raises(Fault, match=r"in the bag: did you mean /lidar/points\?$"):
            find_topics(reader, points="/lidar/point")
        with pytest.raises(Fault, match="expected sensor_msgs/msg/PointCloud2") as caught:
            find_topics(reader, points="/camera/image_raw")
        assert caught.value.reason == "wrong_type"
        with pytest.raises(Fault, match="/nope"):
            list(reader.messages(["/nope"]))
