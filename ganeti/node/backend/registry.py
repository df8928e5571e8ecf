"""Which function a call means, and what functions get to work with.

A module of `ganeti.node.backend` registers its functions by decorating them; `load_all` imports all
modules, so that adding a function is one file and no list.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from ganeti.errors import ProgrammerError
from ganeti.interfaces import IHost, Plugins
from ganeti.model.calls.base import NodeCall

C = TypeVar("C", bound=NodeCall[Any])
R = TypeVar("R")


class NodeWorld(msgspec.Struct, frozen=True, kw_only=True):
    """The node a function works on, and the plugins it may use."""

    host: IHost
    plugins: Plugins


NodeFunction = Callable[[Any, NodeWorld], Any]
"""Plain blocking code: takes the call and the world, gives a value of the call's result type."""


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """A function and the call it answers."""

    call: type[NodeCall[Any]]
    function: NodeFunction


_REGISTERED: dict[str, Registered] = {}


def node_function(
    call: type[C],
) -> Callable[[Callable[[C, NodeWorld], R]], Callable[[C, NodeWorld], R]]:
    """Registers the decorated function as the one that answers this class of calls.

    Raises:
        ProgrammerError: another function answers it already.
    """

    def register(function: Callable[[C, NodeWorld], R]) -> Callable[[C, NodeWorld], R]:
        name = call.function()
        known = _REGISTERED.get(name)
        if known is not None and known.function.__module__ != function.__module__:
            raise ProgrammerError(
                f"node function {name} is in {known.function.__module__} and in {function.__module__}"
            )
        _REGISTERED[name] = Registered(call=call, function=function)
        return function

    return register


def functions() -> Mapping[str, Registered]:
    """Every function registered so far, by its name on the wire."""
    return MappingProxyType(_REGISTERED)


def load_all() -> None:
    """Import every module of the backend, so that all functions are registered."""
    package = importlib.import_module("ganeti.node.backend")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
