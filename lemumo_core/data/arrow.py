"""pyarrow with its file systems, or an error with the command that installs it."""

from __future__ import annotations

from lemumo_core.extras import install_line

try:
    import pyarrow as pa
    from pyarrow import fs
except ImportError as error:
    raise ImportError(f"shards need pyarrow: {install_line('train')}") from error

__all__ = ["fs", "pa"]
