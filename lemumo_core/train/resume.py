"""Going on with a run: from which checkpoint, and whether it is the same run."""

from __future__ import annotations

import logging
from pathlib import Path

from lemumo_core.faults import Fault, differences, indented
from lemumo_core.train import checkpoint, run_folder
from lemumo_core.train.checkpoint import Checkpoint
from lemumo_core.train.parallel import DistInfo, from_first
from lemumo_core.train.run_config import RunConfig, fingerprint, from_dict, to_dict
from lemumo_core.train.weights import check_weights

log = logging.getLogger(__name__)


def checkpoint_to_resume(config: RunConfig, out: Path, dist: DistInfo) -> Checkpoint | None:
    """Return the checkpoint to go on from: the one that rank 0 finds.

    Without one the run starts, for which its weights are looked for before data are prepared.

    Raises:
        Fault, FileNotFoundError: as ``open_checkpoint`` and ``check_weights``.
    """
    if config.resume is not None:
        found = checkpoint.newest(out / run_folder.CHECKPOINTS) if dist.first else None
        if path := from_first(str(found.path) if found else ""):
            return checkpoint.open_checkpoint(Path(path))
    if config.weights is not None:
        check_weights(Path(config.weights))
    return None


def check_same_run(config: RunConfig, frames: int, dist: DistInfo, found: Checkpoint) -> None:
    """Check that a checkpoint is of this run, over so many frames, and log what it means.

    Raises:
        Fault: ``other_run``, naming the options that differ.
    """
    changes = config.resumable_changes
    there, here = (
        fingerprint(to_dict(values), changes)
        for values in (from_dict(type(config), found.state["config"]), config)
    )
    changed = differences(there | {"frames": found.state["frames"]}, here | {"frames": frames})
    if changed:
        raise Fault(
            "other_run",
            f"{found.path} is of another run:{indented(changed)}"
            f"resume with the same options, or start a new run with --weights {found.path}",
        )
    if dist.first:
        log.warning("resuming from %s", found.path)
    if dist.first and found.state["ranks"] != dist.world:
        log.warning(
            "it was saved on %d ranks and resumes on %d. Frames, views, dropped paths and learning "
            "rate of every step stay the same; sums over the batch are taken in another order, so "
            "losses agree up to rounding and no longer bit for bit",
            *(found.state["ranks"], dist.world),
        )
