"""Distortion models by the names and coefficient lists that drivers and calibration tools write."""

from __future__ import annotations

from collections.abc import Sequence

from lemumo_core.faults import Fault, known_names

COEFFICIENTS = {
    "pinhole": (0,),
    "plumb_bob": (4, 5),
    "rational_polynomial": (8,),
    "equidistant": (4,),
}
"""Distortion model to the numbers of coefficients it may carry."""

ALIASES = {
    # Images without distortion: Kalibr, simulators.
    "none": "pinhole",
    "no_distortion": "pinhole",
    "undistorted": "pinhole",
    # The polynomial of Brown and Conrady: Kalibr, OpenCV, calibration files.
    "radtan": "plumb_bob",
    "radial_tangential": "plumb_bob",
    "brown_conrady": "plumb_bob",
    "opencv": "plumb_bob",
    "rational": "rational_polynomial",
    # Kannala and Brandt's with four coefficients: OpenCV, Kalibr, RealSense.
    "fisheye": "equidistant",
    "opencv_fisheye": "equidistant",
    "equi": "equidistant",
    "kannala_brandt": "equidistant",
    "kannala_brandt4": "equidistant",
    "kb4": "equidistant",
}
"""Other spellings, in lower case with underscores, of the keys of ``COEFFICIENTS``."""

POLYNOMIALS = {4: "plumb_bob", 5: "plumb_bob", 8: "rational_polynomial"}
"""Number of coefficients to the model: OpenCV and ROS's image_geometry go by it alone."""


def distortion_from(name: str, coefficients: Sequence[float]) -> tuple[str, tuple[float, ...]]:
    """Return the model and the coefficients that a name and a list of numbers mean.

    Names may be in any case, with spaces or hyphens; '' is a polynomial. Zeros past those that a
    model takes are dropped (drivers fill up to OpenCV's 14), and so are all zeros of a polynomial,
    which is then a pinhole.

    Args:
        name: of the model, as in a CameraInfo or a calibration file.
        coefficients: in OpenCV's order.

    Returns:
        A key of ``COEFFICIENTS`` and as many coefficients as it takes.

    Raises:
        Fault: ``bad_camera`` for an unknown name or for coefficients that the model does not take.
    """
    spelled = "_".join(name.lower().replace("-", " ").replace("_", " ").split())
    model = ALIASES.get(spelled, spelled) or "plumb_bob"
    if model not in COEFFICIENTS:
        raise Fault(
            "bad_camera",
            f"unknown distortion model '{name}'{known_names(spelled, [*COEFFICIENTS, *ALIASES])}",
        )
    values = tuple(float(value) for value in coefficients)
    polynomial = model in POLYNOMIALS.values()
    if model == "pinhole" or (polynomial and not any(values)):
        if any(values):
            raise Fault("bad_camera", f"'{name}' means no distortion, but D is {list(values)}")
        return "pinhole", ()
    models = POLYNOMIALS if polynomial else dict.fromkeys(COEFFICIENTS[model], model)
    used = max((i + 1 for i, value in enumerate(values) if value), default=0)
    lengths = [length for length in models if used <= length <= len(values)]
    if not lengths:
        raise Fault(
            "bad_camera",
            f"'{name}' takes {' or '.join(map(str, models))} coefficients, D holds {len(values)}: "
            f"{list(values)} (thin prism and tilt, past the eighth, are not modelled)",
        )
    length = len(values) if len(values) in lengths else lengths[0]
    return models[length], values[:length]
