"""What the tests of CMCR share."""

from __future__ import annotations

import pytest

from lemumo_core.data.samples import Batch
from tests.helpers.small_cmcr import two_sweeps


@pytest.fixture(scope="session")
def sweeps() -> Batch:
    return two_sweeps()
