"""Commands made from signatures: jsonargparse, with a suggestion where an option is unknown."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

try:
    import jsonargparse
except ImportError as error:
    raise ImportError('this command needs jsonargparse: pip install "lemumo_ros[train]"') from error

jsonargparse.typing.register_type(np.ndarray, np.ndarray.tolist, np.asarray)

UNKNOWN = (
    r"unrecognized arguments: --([\w.]+)|Option '([\w.]+)' is not accepted"
    r"|Group '([\w.]+)' does not accept option '([\w.]+)'"
)


class CommandLine(jsonargparse.ArgumentParser):
    """Parser of a command. Adds ``--config FILE.yaml``, which later options override; hyphens in
    the names of options are underscores; an unknown name ends the command with a suggestion."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.add_argument("--config", action="config", help="YAML file of these options")

    def parse_args(self, args: Sequence[str], **options: Any) -> jsonargparse.Namespace:  # type: ignore[override]
        """As ``jsonargparse.ArgumentParser.parse_args``."""
        return super().parse_args([_with_underscores(arg) for arg in args], **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """End the command with a message."""
        if found := re.search(UNKNOWN, message):
            known = [action.dest for action in self._actions]
            close = difflib.get_close_matches(".".join(filter(None, found.groups())), known, n=1)
            message += f"\ndid you mean --{close[0]}?" if close else ""
        super().error(message, ex)


def _with_underscores(arg: str) -> str:
    if not arg.startswith("--"):
        return arg
    name, *value = arg[2:].split("=", 1)
    return "=".join([f"--{name.replace('-', '_')}", *value])
