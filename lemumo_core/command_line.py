"""Commands made from signatures: jsonargparse, in the spelling that users of a shell expect.

The signature of a function is its command: parameters before ``*`` are words, those after it are
options, and the docstring is the help. A parameter named ``options`` is a dataclass whose fields
are options each. All commands of lemumo speak this one dialect:

- ``--option_name``, as in YAML; hyphens in place of underscores are accepted;
- ``--flag`` alone means true, ``--flag false`` the contrary;
- lists, tuples and arrays take several words: ``--precision fp16 int8``; one that follows other
  words may be empty, and one word of an option that takes text as well stays text;
- ``--config FILE.yaml`` holds options by name; later ones on the command line override it;
- an unknown option ends the command with exit code 2 and a suggestion;
- what cannot be used ends it with exit code 1 and one line that names it.
"""

from __future__ import annotations

import argparse
import difflib
import inspect
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin, get_type_hints

import jsonargparse
import numpy as np
import yaml

from lemumo_core.extras import missing_package
from lemumo_core.faults import Fault
from lemumo_core.files import contents_of, read_yaml
from lemumo_core.signals import SIGNALLED, Stopped, StopRequest, stop_request
from lemumo_core.wrong_values import in_words

# Of objects, so that also rows of several lengths reach the check that names their option.
jsonargparse.typing.register_type(np.ndarray, np.ndarray.tolist, partial(np.asarray, dtype=object))

UNKNOWN = (
    r"unrecognized arguments: --([\w.]+)|Option '([\w.]+)' is not accepted"
    r"|Group '([\w.]+)' does not accept option '([\w.]+)'"
)
OPTIONS = "options"
"""Name of the parameter whose fields are options each."""
PARTIAL = 3
"""Exit code where bags are damaged or left out, and the rest is done."""

T = TypeVar("T")


class HelpFormatter(argparse.RawDescriptionHelpFormatter, jsonargparse.DefaultHelpFormatter):  # type: ignore[misc]
    """Shows descriptions as they are written, with their examples."""


def read_config(path: Path) -> Mapping[str, Any]:
    """Return the options that a file of ``--config`` holds.

    Raises:
        Fault: ``bad_config``, naming the file, where it is not YAML or no mapping.
        OSError: it cannot be read.
    """
    cure = "write options as YAML, NAME: VALUE"
    with contents_of(path, "bad_config", cure):
        values = read_yaml(path)
    if not isinstance(values, Mapping):
        raise Fault("bad_config", f"{path} holds no options: {cure}")
    return values


class ConfigFile(jsonargparse.ActionConfigFile):  # type: ignore[misc]
    """Names the file in what is wrong with a ``--config``."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: Any = None) -> None:
        """Take the options of a file, or of text that is YAML itself."""
        if os.path.isfile(values):
            read_config(Path(values))
            parser.config_files.append(values)
        super().__call__(parser, cfg, values, option_string)


class CommandLine(jsonargparse.ArgumentParser):
    """Parser of a command in the dialect of this module."""

    def __init__(self, **options: Any):
        super().__init__(formatter_class=HelpFormatter, allow_abbrev=False, **options)
        self.config_files: list[str] = []
        self.add_argument("--config", action=ConfigFile, help="YAML file of these options")

    def add_function(self, function: Callable[..., Any]) -> None:
        """Add the parameters of a function: words before its ``*``, options after it."""
        parameters = inspect.signature(function).parameters.values()
        options = {one.name for one in parameters if one.kind is one.KEYWORD_ONLY}
        words = {one.name for one in parameters} - options
        for skipped, as_positional in ((options, True), (words | {OPTIONS}, False)):
            self.add_function_arguments(
                function, as_group=False, as_positional=as_positional, skip=set(skipped)
            )
        if OPTIONS in options:
            self.add_class_arguments(get_type_hints(function)[OPTIONS], as_group=False)

    def call(self, function: Callable[..., T], options: jsonargparse.Namespace) -> T:
        """Call a function added by ``add_function`` with what was parsed.

        Raises:
            ValueError: for an option outside its range; whatever the function raises.
        """
        values = self.instantiate(options)
        arguments = {
            name: values[name] for name in inspect.signature(function).parameters if name != OPTIONS
        }
        if kind := get_type_hints(function).get(OPTIONS):
            arguments[OPTIONS] = kind(**{one.name: values[one.name] for one in fields(kind)})
        return function(**arguments)

    def parse_args(self, args: Sequence[str], **options: Any) -> jsonargparse.Namespace:  # type: ignore[override]
        """As ``jsonargparse.ArgumentParser.parse_args``."""
        for action in self._actions:
            if _is_list(getattr(action, "_typehint", None)):
                action.metavar = f"{action.dest.upper()} ..."
            elif not action.option_strings:
                action.metavar = action.dest.upper()
        return super().parse_args(self._as_jsonargparse(list(args)), **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """End the command with a message and exit code 2."""
        if found := re.search(UNKNOWN, message):
            if self.config_files and not found[1]:
                message = f"{' or '.join(self.config_files)}: {message}"
            known = [action.dest for action in self._actions]
            close = difflib.get_close_matches(".".join(filter(None, found.groups())), known, n=1)
            message += f"\ndid you mean --{close[0]}?" if close else ""
        super().error(in_words(message), ex)

    def _as_jsonargparse(self, args: list[str]) -> list[str]:
        """The same words as jsonargparse reads them: values of flags, lists in brackets."""
        types = {action.dest: getattr(action, "_typehint", str) for action in self._actions}
        alone = {"help", "print_config"}  # these take no word after them
        positional = [action.dest for action in self._actions if not action.option_strings]
        words: list[str] = []
        options: list[str] = []
        while args:
            arg = args.pop(0)
            if arg == "--":
                words += args
                break
            if not arg.startswith("--") and arg != "-h":
                words.append(arg)
                continue
            name, equals, value = arg.removeprefix("--").partition("=")
            name = "help" if name == "-h" else name.replace("-", "_")
            options.append(f"--{name}={value}" if equals else f"--{name}")
            if equals or name in alone:
                continue
            following = list(_values(args))
            kind = types.get(name, str)
            if kind is bool:
                value = following[0] if following else ""
                is_value = value.lower() in ("true", "false")
                options[-1] += f"={value}" if is_value else "=true"
                del args[: int(is_value)]
            elif _is_list(kind) and following:
                alone_as_text = len(following) == 1 and str in _members(kind)
                value = following[0] if alone_as_text else _bracketed(kind, following)
                options[-1] += f"={value}"
                del args[: len(following)]
            elif following:
                options[-1] += f"={args.pop(0)}"
        if positional and _is_list(types[positional[-1]]):
            first = len(positional) - 1
            if len(words) > first:
                words[first:] = [_bracketed(types[positional[-1]], words[first:])]
            elif words and len(words) == first:
                words.append("[]")
        options = _parts_last(options)
        return [*options, "--", *words] if words else options


def run_function(
    prog: str,
    function: Callable[..., int | None],
    arguments: Sequence[str],
    description: str | None = None,
) -> int:
    """Run a function as a command.

    Args:
        prog: name of the command, in its help and before its errors.
        function: whose signature the command has; returns an exit code, None for 0.
        arguments: words of the command line.
        description: of the command; by default the function's own.

    Returns:
        The exit code; 1 after a fault, which is printed.
    """
    parser = CommandLine(prog=prog, description=description or _summary(function))
    parser.add_function(function)
    return guarded(prog, lambda: parser.call(function, parser.parse_args(arguments)))


def guarded(prog: str, action: Callable[[], int | None]) -> int:
    """Run an action; an error that its user can mend becomes one line and exit code 1.

    After a signal (``signals.SIGNALS``) the action's cleaning up is done before the command ends,
    with 128 and the signal's number as its exit code.
    """
    received = StopRequest()
    try:
        with stop_request() as received:
            return action() or 0
    except ImportError as error:
        print(f"{prog}: {missing_package(error)}", file=sys.stderr)
    except (ValueError, OSError) as error:  # Fault among them
        print(f"{prog}: {error}", file=sys.stderr)
    except KeyboardInterrupt as stopped:  # Stopped, or what a library made of it
        if not isinstance(stopped, Stopped):
            stopped = Stopped(received.signal or signal.SIGINT)
        print(f"{prog}: {stopped}", file=sys.stderr)
        return SIGNALLED + stopped.signal
    return 1


def _summary(function: Callable[..., Any]) -> str:
    """The docstring of a function before its sections."""
    return (inspect.getdoc(function) or "").partition("\n\nArgs:")[0]


def _values(args: Sequence[str]) -> Iterator[str]:
    for arg in args:
        if arg.startswith("--"):
            return
        yield arg


def _parts_last(options: Sequence[str]) -> list[str]:
    """Move what is set of an option behind the option itself, which would reset it.

    ``--method.tokens true --method DINO`` becomes ``--method DINO --method.tokens true``, so that
    what the method does not have is refused.
    """
    names = [option.partition("=")[0] for option in options]
    last = {name: place for place, name in enumerate(names)}

    def place(index: int) -> tuple[int, bool]:
        parts = names[index].split(".")
        wholes = (".".join(parts[:count]) for count in range(1, len(parts)))
        whole = max((last.get(name, 0) for name in wholes), default=0)
        return max(index, whole), whole > index

    return [options[index] for index in sorted(range(len(options)), key=place)]


def _members(kind: Any) -> list[Any]:
    """The types that a type stands for: those of a union, without None."""
    if get_origin(kind) in (list, tuple, set, dict, Sequence) or not get_args(kind):
        return [kind]
    if get_origin(kind) is Literal:
        return [kind]
    return [member for member in get_args(kind) if member is not NoneType]


def _is_list(kind: Any) -> bool:
    return any(
        member is np.ndarray or get_origin(member) in (list, tuple, set)
        for member in _members(kind)
    )


def _bracketed(kind: Any, words: Sequence[str]) -> str:
    """Words as one list in YAML; a list that its user wrote in brackets stays as it is."""
    if len(words) == 1 and words[0].startswith("["):
        return words[0]
    arguments = [argument for member in _members(kind) for argument in get_args(member)]
    elements = [one for argument in arguments for one in _members(argument)]
    if any(one in (str, Path) or get_origin(one) is Literal for one in elements):
        return json.dumps(list(words))
    if np.ndarray in _members(kind):  # in quotes, rows of numbers are one word
        words = " ".join(words).split()
    return json.dumps([_value(word) for word in words])


def _value(word: str) -> Any:
    """Return what a word means in YAML, or the word itself, which its option then refuses."""
    try:
        return yaml.safe_load(word)
    except yaml.YAMLError:
        return word
