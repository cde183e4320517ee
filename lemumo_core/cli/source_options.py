"""The options of a source on the command line, typed by its signature: ``COMMAND SOURCE ...``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from lemumo_core.command_line import CommandLine
from lemumo_core.data.sources import FrameSource
from lemumo_core.data.sources.members import Data, Member, members_of
from lemumo_core.data.sources.registry import SOURCES, source_class

USAGE_ERROR = 2
T = TypeVar("T")


def help_without_source(description: str | None, arguments: Sequence[str]) -> int | None:
    """Print the help where no source is named; return the exit code then, otherwise None."""
    if arguments and arguments[0] not in ("-h", "--help"):
        return None
    print(f"{description}\nSOURCE is one of: {', '.join(SOURCES)}")
    return 0 if arguments else USAGE_ERROR


def parse_data(
    prog: str, arguments: Sequence[str], command: Callable[..., T]
) -> tuple[list[Member], T]:
    """Parse ``--data``, several sources with options of their own, and those of a command.

    Args:
        prog: name of the command.
        arguments: options.
        command: a class of options.

    Returns:
        The sources, and the options of the command.

    Raises:
        Fault: as ``members_of``.
    """
    parser = CommandLine(prog=prog)
    parser.add_argument("--data", type=Data, required=True, help="sources with their options")
    added = parser.add_class_arguments(command, as_group=False)
    options = parser.instantiate(parser.parse_args(arguments))
    return members_of(options["data"], {}), command(**{name: options[name] for name in added})


def parse_source(
    prog: str, arguments: Sequence[str], command: Callable[..., Any]
) -> tuple[Callable[[], FrameSource], dict[str, Any], dict[str, Any]]:
    """Parse the options of a source, and of the command that uses it.

    Args:
        prog: name of the command.
        arguments: the name of a source, then options of the source and of the command.
        command: a class of options, or a function whose first parameter is the source or its
            frames. An option that the source has as well is the source's: one that makes as many
            frames as it is asked for takes ``--frames`` itself.

    Returns:
        What opens the source, its options, and the keyword arguments of the command.

    Raises:
        Fault: as ``source_class``.
    """
    name, *rest = arguments
    kind = source_class(name)
    own = set(inspect.signature(kind).parameters)
    parser = CommandLine(prog=f"{prog} {name}")
    parser.add_class_arguments(kind)
    if inspect.isclass(command):
        added = parser.add_class_arguments(command, as_group=False, skip=set(own))
    else:
        skipped: set[str | int] = {next(iter(inspect.signature(command).parameters)), *own}
        added = parser.add_function_arguments(command, skip=skipped)
    options = parser.instantiate(parser.parse_args(rest))
    of_source = {option: options[option] for option in own}
    return partial(kind, **of_source), of_source, {option: options[option] for option in added}
