"""The command ``lemumo``: one subcommand for every step from a log to a vehicle.

A command's module is imported when the command is called, so that ``lemumo --help`` is quick and
a machine without the training packages runs the others. Packages that build on lemumo add commands
by the entry point group ``lemumo.commands``: a name and a function that takes the arguments of the
command line and returns an exit code, or None for 0.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib.metadata import EntryPoint, EntryPoints, entry_points, version
from pathlib import Path

from lemumo_core.extras import DISTRIBUTION, missing_package
from lemumo_core.signals import REQUEUE, SIGNALLED, Stopped, stop_request

COMMANDS = {
    "prepare": "write a source as shards, or look at shards",
    "label": "choose frames, take them to an annotation tool and back, or label without people",
    "pretrain": "pretrain an encoder on unlabelled frames",
    "finetune": "fine-tune a perception model on labelled frames",
    "adapt": "adapt a package to a robot from its bags, without a label",
    "runs": "list training runs, or compare some",
    "evaluate": "measure a model on frames with ground truth",
    "export": "write a verified model package",
    "build-engine": "build TensorRT engines of a package and prove them",
    "parity": "compare two backends of a package",
    "replay": "run a model over bags, or publish them",
    "compare": "compare two replays of the same bags",
    "make-bag": "write a source as a bag",
    "bench": "measure how fast a package runs on this machine",
    "inspect": "show what a bag, package, run or folder of shards holds",
    "sign": "sign a package with an ed25519 key",
    "verify": "check that a package is whole and signed",
    "pull": "bring a package from a folder, a URL or the Hugging Face Hub",
    "push": "publish a package to one of these",
}
"""Command to its help; its module is ``lemumo_core.cli.<name>``, with underscores."""
RESUMED = ("prepare", "pretrain", "finetune", "adapt")
"""Commands that go on where they were stopped."""
GROUP = "lemumo.commands"
Command = Callable[[list[str]], int | None]
USAGE_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: of the command line, the command first; by default those of this process.

    Returns:
        The exit code: 0, 1 after an error, 2 after a mistake in the command line, or what the
        command documents.
    """
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if name in COMMANDS:
        return run_command(f"lemumo_core.cli.{name.replace('-', '_')}", name, rest)
    if name == "--version":
        print(f"lemumo {version(DISTRIBUTION)}")
        return 0
    others = entry_points(group=GROUP)
    if name in ("", "-h", "--help"):
        print(usage(others), file=sys.stdout if name else sys.stderr)
        return 0 if name else USAGE_ERROR
    if name in others.names:
        return run_command(others[name].module, name, rest, others[name].attr)
    close = difflib.get_close_matches(name, [*COMMANDS, *others.names], n=1)
    guess = f": did you mean 'lemumo {close[0]}'?" if close else "; lemumo --help lists them"
    print(f"lemumo: there is no command '{name}'{guess}", file=sys.stderr)
    return USAGE_ERROR


def usage(others: EntryPoints) -> str:
    """Return the help of ``lemumo``, with the commands that other packages add."""
    lines = ["usage: lemumo COMMAND ...", ""]
    lines += [f"  {name:14}{text}" for name, text in COMMANDS.items()]
    lines += [f"  {one.name:14}{_summary(one)}" for one in others]
    return "\n".join([*lines, "", "lemumo COMMAND --help shows the options of a command."])


def _summary(command: EntryPoint) -> str:
    """Return the first line of the docstring of a command's module, without running the module."""
    package = command.module.partition(".")[0]
    try:
        spec = importlib.util.find_spec(command.module)
    except ImportError:
        return f"from {package}, which is not installed"
    path = Path(spec.origin or "") if spec else Path()
    if path.suffix != ".py":
        return f"from {package}"
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or f"from {package}"
    return docstring.partition("\n")[0].rstrip(".")


def run_command(module: str, name: str, arguments: list[str], function: str = "main") -> int:
    """Import a command and run it; a missing package becomes one line that says what to install.

    Importing and parsing take seconds, in which signals end a command as they do later. Those of
    other packages handle signals themselves.

    Args:
        module: name of the module that holds the command.
        name: what messages call the command.
        arguments: of its command line.
        function: name of the module's function that takes them.

    Returns:
        The exit code.
    """
    try:
        with stop_request() if name in COMMANDS else nullcontext():
            command: Command = getattr(importlib.import_module(module), function)
            return command(arguments) or 0
    except ImportError as error:
        print(f"lemumo {name}: {missing_package(error)}", file=sys.stderr)
        return 1
    except Stopped as stopped:
        print(f"lemumo {name}: {stopped}", file=sys.stderr)
        return REQUEUE if name in RESUMED else SIGNALLED + stopped.signal


if __name__ == "__main__":
    sys.exit(main())
