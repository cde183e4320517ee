"""The command line of a training program."""

from __future__ import annotations

import logging
from pathlib import Path

from lemumo_core.command_line import guarded
from lemumo_core.train.loop import Recipe, replay, train
from lemumo_core.train.run_config import command_line, defaults_of_classes, from_namespace


def program(recipe: Recipe, description: str | None, arguments: list[str]) -> int:
    """Train as the arguments say, or repeat a step that failed.

    Args:
        recipe: what the program trains.
        description: of the program.
        arguments: of the command.

    Returns:
        The exit code: those of ``loop.train``, or 1 after an error, which is printed.
    """
    logging.basicConfig(format="%(message)s")
    prog = f"lemumo {recipe.config.program}"
    parser = command_line(recipe.config, prog)
    parser.description = description
    parser.add_argument("--replay", type=Path, help="folder of a captured step, to repeat it")

    def run() -> int:
        options = parser.parse_args(arguments)
        if options.replay is not None:
            for name, (then, now) in replay(recipe, options.replay).items():
                print(f"{name}: {then} then, {now} now")
            return 0
        defaults = recipe.config.defaults(options) | defaults_of_classes(options.classes)
        if defaults:
            parser.set_defaults(defaults)
            options = parser.parse_args(arguments)
        return train(recipe, from_namespace(recipe.config, parser, options))

    return guarded(prog, run)
