"""Asks allocators: gathers what the nodes report, asks, and checks the answer."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from zope.interface import implementer

from ganeti.errors import AllocatorError, ErrorCode, GanetiError, NodeError, NodeTimeout, PrereqError
from ganeti.interfaces import IAllocation, IClusterState, IExternalAllocators, INodes, Plugins
from ganeti.logic.allocator_answers import check_solution
from ganeti.model.allocation import (
    Allocate,
    AllocateSecondary,
    AllocationRequest,
    Capacity,
    ChangeGroup,
    ClusterView,
    Evacuate,
    MultiAllocate,
    Relocate,
    Solution,
)
from ganeti.model.calls.outcome import Answer
from ganeti.model.calls.system import AllocatorRunner
from ganeti.model.cluster import Cluster, ClusterSettings
from ganeti.model.ids import PLUGIN_NAME, GroupId, NodeId
from ganeti.model.node import AllocPolicy
from ganeti.ops.base import InThread

DEFAULT_NAMES = ("", ".")
"""What stands for the cluster's `default_iallocator`."""
_MANY = (MultiAllocate, ChangeGroup, Evacuate)
"""Requests about several instances; whoever asks is told which of them cannot be placed."""


@implementer(IAllocation)
class Allocation:
    """Places instances on live nodes.

    Args:
        state: what the nodes say.
        nodes: the master among them runs external programs.
        plugins: allocators by name.
        run_in_thread: where allocators compute and documents are written.
        program_directories: where the master, this machine, has external allocators.
    """

    log = Logger()

    def __init__(
        self,
        state: IClusterState,
        nodes: INodes,
        plugins: Plugins,
        run_in_thread: InThread,
        program_directories: Sequence[str] = (),
    ) -> None:
        self._state = state
        self._nodes = nodes
        self._plugins = plugins
        self._run_in_thread = run_in_thread
        self._program_directories = program_directories

    async def exists(self, name: str) -> bool:
        """Whether this is a plugin that decides itself, or an external program on the master."""
        if name in self._plugins.iallocators:
            return name in self._deciding()
        return self._is_program(name)

    def _deciding(self) -> list[str]:
        """Plugins that decide themselves."""
        plugins = self._plugins.iallocators.items()
        return sorted(name for name, plugin in plugins if not IExternalAllocators.providedBy(plugin))

    def _is_program(self, name: str) -> bool:
        paths = [f"{directory}/{name}" for directory in self._program_directories]
        return PLUGIN_NAME.match(name) is not None and any(os.access(path, os.X_OK) for path in paths)

    def _refuse_unknown(self, name: str) -> None:
        if name in self._deciding():
            return
        is_possible = PLUGIN_NAME.match(name) is not None and name not in self._plugins.iallocators
        if not is_possible or (self._program_directories and not self._is_program(name)):
            searched = ", ".join(self._program_directories) or "nowhere"
            raise PrereqError(
                f"there is no allocator {name!r} on the master; built in: {', '.join(self._deciding())};"
                f" programs are searched in: {searched}"
            )

    async def document(self, request: AllocationRequest, *, cluster: Cluster) -> str:
        """What an external program would get; see `IAllocation`."""
        view = await self.view(cluster, groups=concerned(request, cluster), cached=False)
        external = self._external()
        if external is None:
            raise AllocatorError("no plugin for external allocators is installed")
        text: str = await self._run_in_thread(lambda: external.encode(request, view))
        return text

    def _external(self) -> Any:
        return next(
            (one for one in self._plugins.iallocators.values() if IExternalAllocators.providedBy(one)), None
        )

    async def solve(
        self,
        name: str,
        request: AllocationRequest,
        *,
        cluster: Cluster,
        candidates: Collection[NodeId] | None = None,
        cached: bool = True,
    ) -> Solution:
        """Gather facts, ask the allocator, check its answer; see `IAllocation`."""
        name = self._chosen(name, cluster.settings)
        self._refuse_unknown(name)
        _refuse_unallocable(request, cluster)
        groups = concerned(request, cluster)
        view = await self.view(cluster, groups=groups, candidates=candidates, cached=cached)
        solution = await self._ask(name, request, view)
        for instance, reason in solution.failed:
            self.log.info("no place for {instance}: {reason}", instance=instance, reason=reason)
        if solution.failed and not solution.placements and not isinstance(request, _MANY):
            raise PrereqError(_refusal(name, solution), code=ErrorCode.NO_RESOURCES)
        return solution

    def _chosen(self, name: str, settings: ClusterSettings) -> str:
        if name in DEFAULT_NAMES:
            name = settings.default_iallocator
        if not name:
            raise PrereqError(
                "no allocator was named and the cluster has no default one; give the nodes, name an"
                " allocator such as builtin, or set default_iallocator"
            )
        return name

    async def _ask(self, name: str, request: AllocationRequest, view: ClusterView) -> Solution:
        plugin = self._plugins.iallocators.get(name)
        if plugin is None:
            return await self._ask_program(name, request, view)
        try:
            solution: Solution = await self._run_in_thread(lambda: plugin.solve(request, view))
        except (CancelledError, GanetiError):
            raise
        except Exception as error:
            self.log.failure("allocator {name} crashed", name=name)
            raise AllocatorError(f"allocator {name} crashed ({type(error).__name__}: {error})") from error
        with _naming(name):
            check_solution(request, view, solution)
        return solution

    async def _ask_program(self, name: str, request: AllocationRequest, view: ClusterView) -> Solution:
        external = self._external()
        if external is None:
            raise AllocatorError(f"no plugin for external allocators such as {name} is installed")
        # With many instances this takes longer than the reactor may be held up.
        text = await self._run_in_thread(lambda: external.encode(request, view))
        options: Mapping[str, Any] = view.cluster.settings.default_iallocator_params
        if isinstance(request, Evacuate) and request.ignore_soft_errors:
            options = {**options, "ignore-soft-errors": None}
        call = AllocatorRunner(name=name, request=text, options=options)
        master = view.cluster.master
        try:
            answer = await self._nodes.call(master, call)
        except NodeTimeout as error:
            limit = call.duration.value
            raise AllocatorError(f"allocator {name} did not answer within {limit:.0f} seconds") from error
        except NodeError as error:
            raise AllocatorError(f"allocator {name} could not be run on {master.name}: {error}") from error
        with _naming(name):
            solution: Solution = external.decode(request, view, answer)
        return solution

    async def view(
        self,
        cluster: Cluster,
        *,
        groups: Collection[GroupId] | None = None,
        candidates: Collection[NodeId] | None = None,
        cached: bool = True,
    ) -> ClusterView:
        """What the nodes of these groups say; see `IAllocation`."""
        asked = [
            node
            for node in cluster.nodes.values()
            if node.vm_capable and not node.offline and (groups is None or node.group in groups)
        ]
        outcomes = await self._state.reports(asked, cached=cached)
        reports = {
            uuid: outcome.value
            for uuid, outcome in outcomes.items()
            if isinstance(outcome, Answer) and not outcome.value.problems
        }
        silent = [node.name for node in asked if node.uuid not in reports]
        if silent:
            self.log.warn("placing without {nodes}, which gave no sensible answer", nodes=", ".join(silent))
        return ClusterView(
            cluster=cluster,
            facts={node: report.info for node, report in reports.items()},
            running={node: report.running for node, report in reports.items()},
            candidates=None if candidates is None else frozenset(candidates),
            ctime=min((report.at for report in reports.values()), default=None),
        )


def concerned(request: AllocationRequest, cluster: Cluster) -> frozenset[GroupId] | None:
    """Groups that an answer can be about, so that nodes of others delay nobody (S2.3-055); None: all."""
    match request:
        case Allocate(instance=wanted):
            return wanted.groups or None
        case MultiAllocate(instances=instances):
            groups = [wanted.groups for wanted in instances]
            return frozenset().union(*groups) if all(groups) else None
        case Relocate(instance=name) | AllocateSecondary(instance=name):
            return _homes(cluster, [name])
        case Evacuate(instances=names):
            return _homes(cluster, names)
        case ChangeGroup(instances=names, target_groups=targets):
            return _homes(cluster, names) | frozenset(targets) if targets else None
        case Capacity(params=params):
            return frozenset(params)
    return None


def _homes(cluster: Cluster, names: Iterable[str]) -> frozenset[GroupId]:
    nodes = (node for name in names for node in cluster.nodes_of(cluster.instance(name)))
    return frozenset(cluster.nodes[node].group for node in nodes)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Errors about an answer say whose it was."""
    try:
        yield
    except AllocatorError as error:
        raise AllocatorError(f"allocator {name}: {error}") from error


def _refuse_unallocable(request: AllocationRequest, cluster: Cluster) -> None:
    """Groups that nothing may be put into cannot be asked for, whoever the allocator is."""
    if not isinstance(request, Allocate):
        return
    groups = [cluster.groups[group] for group in request.instance.groups or tuple(cluster.groups)]
    if any(group.alloc_policy is not AllocPolicy.UNALLOCABLE for group in groups):
        return
    names = ", ".join(sorted(group.name for group in groups))
    which = f"group {names} is" if len(groups) == 1 else f"groups {names} are"
    raise PrereqError(
        f"{which} unallocable; choose another one, name the nodes, or change the alloc_policy"
        " (gnt-group modify --alloc-policy)",
        code=ErrorCode.NO_RESOURCES,
    )


def _refusal(name: str, solution: Solution) -> str:
    instance, reason = solution.failed[0]
    if solution.rejections or instance in reason:
        return reason
    return f"allocator {name} found no place for instance {instance}: {reason}"
