"""pyarrow with its file systems, or an error with the command that installs it."""

from __future__ import annotations

try:
    import pyarrow as pa
    from pyarrow import fs
except ImportError as error:
    raise ImportError('shards need pyarrow: pip install "lemumo_ros[train]"') from error

__all__ = ["fs", "pa"]
