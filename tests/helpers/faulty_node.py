"""The real node with a runtime that fails on command: what the file $LEMUMO_FAULT holds.

``sleep SECONDS``, ``raise`` or ``nan`` happen at every inference, ``raise once`` at one.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from lemumo_core.inference import pipeline, recovery
from lemumo_core.inference.backends import load_backend
from lemumo_ros.node import main

FAULT = Path(os.environ["LEMUMO_FAULT"])


class FaultyBackend:
    """A real backend behind faults."""

    def __init__(self, package: Any, name: str, batch: int = 1) -> None:
        self.backend = load_backend(package, name, batch)
        self.name, self.outputs = self.backend.name, self.backend.outputs

    def infer(self, inputs: Any, outputs: Any) -> None:
        """As the backend's, or the fault."""
        kind, _, value = FAULT.read_text().partition(" ")
        if kind == "raise":
            if value == "once":
                FAULT.write_text("")
            raise MemoryError("CUDA_ERROR_OUT_OF_MEMORY")
        if kind == "sleep":
            time.sleep(float(value))
        self.backend.infer(inputs, outputs)
        if kind == "nan":
            outputs["depth"][0, 0, 0] = float("nan")

    def close(self) -> None:
        """Free the real one."""
        self.backend.close()


recovery.load_backend = pipeline.load_backend = FaultyBackend  # type: ignore[assignment]

if __name__ == "__main__":
    main()
