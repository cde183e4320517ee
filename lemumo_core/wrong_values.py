"""Errors of jsonargparse about an option's value, put into one line of words."""

from __future__ import annotations

import re

KINDS = {
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a number",
    "<class 'bool'>": "true or false",
    "<class 'str'>": "text",
    "<class 'NoneType'>": "null",
}
_KEY = r'Parser key "([^"]+)"'
_KIND = r"Expected an? (.+?)(?:\. Got value: .*)?$"
_VALUE = r"(?:Got|Given) value: (.*)"
_OF_CLASS = r'Parser key "([^"]+)":\s+Problem with given class_path .*:\s+--(.* must be .*)'


def in_words(message: str) -> str:
    """Return an error of jsonargparse with the option's name, what it takes, and what it was given.

    It names types as Python does, over several lines for an option that takes one of several. An
    error of another kind stays as it is.
    """
    if found := re.fullmatch(_OF_CLASS, message):  # whose own error was put into words before
        return f"--{found[1]}.{found[2]}"
    keys, value = re.findall(_KEY, message), re.search(_VALUE, message)
    kinds = [kind for one in re.findall(_KIND, message, re.MULTILINE) for kind in _kinds(one)]
    if not (keys and kinds and value):
        return message
    *first, last = dict.fromkeys(kinds)
    takes = f"{', '.join(first)} or {last}" if first else last
    return f"--{'.'.join(keys)} must be {takes}, not {value[1]}"


def _kinds(found: str) -> list[str]:
    """Return a type in words, or the values that it allows."""
    if names := re.fullmatch(r"typing\.Literal\[(.*)\]", found):
        return names[1].replace("'", "").split(", ")
    if elements := re.fullmatch(r"tuple with (\d+) elements", found):
        return [f"{elements[1]} values"]
    return [KINDS.get(found, re.sub(r"<class '(.*)'>", r"\1", found))]
