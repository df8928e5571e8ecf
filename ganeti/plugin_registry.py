"""Finds the plugins: drop-in modules and entry points, verified, without Twisted.

Everything that looks for plugins, daemon or function process, calls `discover` once and passes the
result on. A third party's broken plugin is a line in `Plugins.problems`; what the cluster is
configured to use is asked for by `demand`, which is loud. ADR 0002 says why Twisted's own
`getPlugins` is not used.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

import msgspec

from zope.interface.exceptions import Invalid
from zope.interface.interface import InterfaceClass
from zope.interface.verify import verifyObject

from ganeti.errors import PluginError
from ganeti.interfaces import IAllocator, IHypervisor, IStorageBackend, Plugins
from ganeti.model.ids import PLUGIN_NAME

KINDS: Mapping[str, InterfaceClass] = {
    "hypervisors": IHypervisor,
    "storage": IStorageBackend,
    "iallocators": IAllocator,
}
"""Kinds of plugins: name of the package below `ganeti.plugins` and of the entry point group."""

_TITLES = {"hypervisors": "hypervisor", "storage": "disk template", "iallocators": "instance allocator"}


class _Candidate(msgspec.Struct, frozen=True):
    source: str
    """Module or entry point, for messages."""
    plugin: Any


def discover() -> Plugins:
    """Find every plugin. Imports all of them; a second call finds what was added since.

    Two plugins of one name are both left out: which of them counts must not depend on luck. Only one that
    says that it stands in for others (`is_stand_in`), as the storage of simulated nodes does, takes the
    place of the one of the same name.
    """
    importlib.invalidate_caches()
    problems: list[str] = []
    found = {kind: _unique(kind, _candidates(kind, problems), problems) for kind in KINDS}
    return Plugins(
        hypervisors=found["hypervisors"],
        storage=found["storage"],
        iallocators=found["iallocators"],
        problems=tuple(problems),
    )


def demand(
    plugins: Plugins,
    *,
    hypervisors: Iterable[str] = (),
    storage: Iterable[str] = (),
    iallocators: Iterable[str] = (),
) -> None:
    """Make sure that what the cluster is configured to use is there.

    Raises:
        PluginError: names what is missing and what else went wrong with plugins.
    """
    wanted = (
        ("hypervisors", plugins.hypervisors, hypervisors),
        ("storage", plugins.storage, storage),
        ("iallocators", plugins.iallocators, iallocators),
    )
    missing = [
        f"{_TITLES[kind]} {name}"
        for kind, present, names in wanted
        for name in sorted(set(names))
        if name not in present
    ]
    if not missing:
        return
    text = f"no plugin for {', '.join(missing)}, which this cluster is configured to use"
    if plugins.problems:
        text += f"; problems with plugins: {'; '.join(plugins.problems)}"
    raise PluginError(f"{text}; install the plugin or take the name out of the cluster's configuration")


def _candidates(kind: str, problems: list[str]) -> Iterator[_Candidate]:
    yield from _drop_ins(kind, problems)
    for point in entry_points(group=f"ganeti.{kind}"):
        candidate = _from_entry_point(kind, point, problems)
        if candidate is not None:
            yield candidate


# --- drop-ins ----------------------------------------------------------------------------------


def _drop_ins(kind: str, problems: list[str]) -> Iterator[_Candidate]:
    from ganeti.plugins import plugin_directories

    package = importlib.import_module(f"ganeti.plugins.{kind}")
    # The paths may have changed since the package was imported.
    package.__path__ = plugin_directories(kind, [os.path.dirname(str(package.__file__))])
    taken: dict[str, str] = {}
    for directory in package.__path__:
        for entry in sorted(pkgutil.iter_modules([directory]), key=lambda found: found.name):
            if entry.name.startswith("_"):
                continue
            if entry.name in taken:
                problems.append(
                    f"{directory}/{entry.name}.py is hidden by a module of the same name in"
                    f" {taken[entry.name]}; rename one"
                )
                continue
            taken[entry.name] = directory
            yield from _from_module(kind, f"{package.__name__}.{entry.name}", directory, problems)


def _from_module(kind: str, name: str, directory: str, problems: list[str]) -> Iterator[_Candidate]:
    try:
        module = importlib.import_module(name)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        # Somebody else's code: whatever it does, SystemExit included, is its problem only.
        problems.append(f"{name} ({directory}) cannot be imported: {_text(error)}")
        return
    found = tuple(_providers(kind, module))
    if not found:
        problems.append(f"{name} ({directory}) has no object that provides {KINDS[kind].__name__}")
    for plugin in found:
        yield _Candidate(f"{name} ({directory})", plugin)


def _providers(kind: str, module: ModuleType) -> Iterator[Any]:
    seen: set[int] = set()
    for value in list(vars(module).values()):
        if not isinstance(value, type) and id(value) not in seen and KINDS[kind].providedBy(value):
            seen.add(id(value))
            yield value


# --- entry points ------------------------------------------------------------------------------


def _from_entry_point(kind: str, point: EntryPoint, problems: list[str]) -> _Candidate | None:
    owner = f" of {point.dist.name}" if point.dist is not None else ""
    source = f"entry point {point.name} = {point.value}{owner}"
    try:
        loaded = point.load()
        if isinstance(loaded, type) and KINDS[kind].implementedBy(loaded):
            loaded = loaded()
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        problems.append(f"{source} cannot be loaded: {_text(error)}")
        return None
    return _Candidate(source, loaded)


# --- what is accepted --------------------------------------------------------------------------


def _unique(kind: str, candidates: Iterable[_Candidate], problems: list[str]) -> dict[str, Any]:
    by_name: dict[str, list[_Candidate]] = {}
    for candidate in candidates:
        problem = _problem(kind, candidate.plugin)
        if problem is not None:
            problems.append(f"{candidate.source} {problem}")
            continue
        others = by_name.setdefault(candidate.plugin.name, [])
        # One object may be there as a module and as an entry point.
        if all(other.plugin is not candidate.plugin for other in others):
            others.append(candidate)
    for name, claims in by_name.items():
        # A fake that stands for a real plugin is there because somebody wants it in its place.
        claims[:] = [claim for claim in claims if getattr(claim.plugin, "is_stand_in", False)] or claims
        if len(claims) > 1:
            sources = " and ".join(claim.source for claim in claims)
            problems.append(f"the {_TITLES[kind]} {name} is claimed by {sources}; remove all but one")
    return {name: claims[0].plugin for name, claims in by_name.items() if len(claims) == 1}


def _problem(kind: str, plugin: Any) -> str | None:
    interface = KINDS[kind]
    try:
        verifyObject(interface, plugin)
    except Invalid as error:
        return f"does not provide {interface.__name__}: {' '.join(str(error).split())}"
    if not isinstance(plugin.name, str) or not PLUGIN_NAME.match(plugin.name):
        return f"has the name {plugin.name!r}; use letters, digits, '-' and '_'"
    return None


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
