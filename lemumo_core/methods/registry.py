"""Methods by name: our own, and those that installed packages bring.

A package brings its methods by entry points of the group ``lemumo.methods``, each of which names
a class of ``MethodOptions``::

    [project.entry-points."lemumo.methods"]
    toy = "toy_method:Toy"
"""

from __future__ import annotations

from importlib import metadata

from lemumo_core.faults import Fault
from lemumo_core.methods.cmcr.method import CMCR
from lemumo_core.methods.decur.method import DeCUR
from lemumo_core.methods.dino.method import DINO
from lemumo_core.methods.info_nce.method import InfoNCE
from lemumo_core.methods.lemumo.method import LeMuMo
from lemumo_core.methods.masked_modeling.method import MaskedModeling
from lemumo_core.methods.method import MethodOptions

GROUP = "lemumo.methods"
OWN: tuple[type[MethodOptions], ...] = (LeMuMo, MaskedModeling, InfoNCE, DINO, DeCUR, CMCR)


def load_methods() -> dict[str, type[MethodOptions]]:
    """Import all methods, so that the command line knows their names.

    Returns:
        Classes of options by their names.

    Raises:
        Fault: ``bad_method`` for an entry point that cannot be imported, is no class of options or
            has the name of another method.
    """
    methods = {options.__name__: options for options in OWN}
    for entry in metadata.entry_points(group=GROUP):
        try:
            options = entry.load()
        except (ImportError, AttributeError) as error:
            raise Fault("bad_method", f"{_named(entry)} cannot be imported: {error}") from error
        if not (isinstance(options, type) and issubclass(options, MethodOptions)):
            raise Fault("bad_method", f"{_named(entry)} is no class of MethodOptions")
        if methods.setdefault(options.__name__, options) is not options:
            raise Fault("bad_method", f"{_named(entry)} has the name of another method: rename it")
    return methods


def default_method() -> MethodOptions:
    """Return the options of the method that a run has by default."""
    return LeMuMo()


def class_path(options: MethodOptions) -> str:
    """Return what ``--method`` takes for a class of options.

    That is its name, or the whole path of one that is not registered.
    """
    kind = type(options)
    if load_methods().get(kind.__name__) is kind:
        return kind.__name__
    return f"{kind.__module__}.{kind.__qualname__}"


def _named(entry: metadata.EntryPoint) -> str:
    package = entry.dist.name if entry.dist else "a package"
    return f"method {entry.name} = {entry.value} of {package} (entry point group {GROUP})"
