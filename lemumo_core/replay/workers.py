"""What workers do in a replay: a whole bag each, or images of one bag, which one process reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lemumo_core.bags.named_bags import Bag
from lemumo_core.bags.recovery import RecoveredBag
from lemumo_core.executor.pool import Pool
from lemumo_core.executor.worker import check_shared
from lemumo_core.folders.folder import Folder
from lemumo_core.inference.package import load_package
from lemumo_core.replay.bag_replay import BagReplay
from lemumo_core.replay.evaluator import Evaluator, ImageResult, ReadImage
from lemumo_core.replay.settings import Settings


@dataclass(frozen=True)
class BagWork:
    """Sets a worker up to replay bags.

    Attributes:
        settings: of the replay.
        backend: that the replay has chosen.
        out, recordings: as of ``BagReplay``.
    """

    settings: Settings
    backend: str
    out: Folder
    recordings: Sequence[str]

    def __call__(self) -> Callable[[Bag], dict[str, Any]]:
        """Return ``BagReplay.run``.

        Raises:
            Fault: ``not_shared``; as ``load_package`` and ``Evaluator``.
        """
        check_shared(self.out)
        evaluator = Evaluator(self.settings, load_package(self.settings.model), self.backend)
        replay = BagReplay(evaluator, self.out, self.recordings)

        def run(bag: Bag) -> dict[str, Any]:
            with RecoveredBag() as recovered:  # not kept: workers may be killed
                return replay.run(bag, recovered)

        return run


@dataclass(frozen=True)
class ImageWork:
    """Sets a worker up to evaluate images.

    Attributes:
        settings: of the replay.
        backend: that the replay has chosen.
    """

    settings: Settings
    backend: str

    def __call__(self) -> Callable[[ReadImage], ImageResult]:
        """Return ``Evaluator.evaluate``.

        Raises:
            Fault: as ``load_package`` and ``Evaluator``.
        """
        package = load_package(self.settings.model)
        return Evaluator(replace(self.settings, truth=None), package, self.backend).evaluate


class PooledEvaluator:
    """Reads a bag, and has its images evaluated by workers.

    Args:
        evaluator: reads.
        pool: of ``ImageWork``.
    """

    def __init__(self, evaluator: Evaluator, pool: Pool):
        self._evaluator, self._pool = evaluator, pool

    def results(self, files: Sequence[Path]) -> Iterator[ImageResult]:
        """Replay one bag, and yield the result of each image, as ``Evaluator.results`` does.

        Raises:
            Fault: as ``Evaluator.results`` and ``Pool.map``.
        """
        results: Iterator[Any] = self._pool.map(self._evaluator.images(files), in_order=True)
        return (result.value for result in results)
