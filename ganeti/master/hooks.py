"""Hook scripts of operations: where they run, what they are told, and what their failure means.

Scripts before an operation may refuse it; scripts after it may only complain. A node that cannot be
asked never stops an operation (plugins.md section 3.1).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from zope.interface import implementer

from ganeti.errors import GanetiError, HooksAbort, HooksFailure
from ganeti.interfaces import IConfig, IFeedback, IHooks, INodes
from ganeti.model.calls.outcome import Answer, NodeFailed, Outcome
from ganeti.model.calls.system import HookResult, HooksRunner
from ganeti.model.cluster import Cluster
from ganeti.model.ids import NodeId
from ganeti.model.node import Node
from ganeti.ops.base import HookNodes, Operation

PRE = "pre"
POST = "post"
CONFIG_UPDATE = "config-update"
SEARCH_PATH = "/sbin:/bin:/usr/sbin:/usr/bin"
VERSION = "2"
FAILED = 1
"""Code of a script that failed."""

AnyOperation = Operation[Any, Any, Any]


@implementer(IHooks)
class NodeHooks:
    """Runs scripts through the node daemons.

    Args:
        nodes: calls them.
    """

    def __init__(self, nodes: INodes) -> None:
        self._nodes = nodes

    async def run(
        self, hpath: str, phase: str, nodes: Collection[Node], env: Mapping[str, str]
    ) -> Mapping[NodeId, Outcome[Any]]:
        """Run the scripts of one directory and phase on these nodes, on all at the same time.

        Those that are offline are left out silently.
        """
        asked = [node for node in nodes if not node.offline]
        if not asked:
            return {}
        return await self._nodes.each(asked, HooksRunner(hpath=hpath, phase=phase, env=env))


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out before an operation ran."""

    env: Mapping[str, str]
    nodes: HookNodes | None
    """None: the operation has no hooks."""


class OperationHooks:
    """The hooks of one operation after the other.

    Args:
        hooks: runs scripts.
        config: the newest configuration, for what scripts are told.
        data_dir: GANETI_DATA_DIR.
    """

    def __init__(self, hooks: IHooks, config: IConfig, data_dir: str) -> None:
        self._hooks = hooks
        self._config = config
        self._data_dir = data_dir

    async def before(self, operation: AnyOperation, feedback: IFeedback) -> Prepared:
        """Run the scripts that may refuse.

        Raises:
            HooksAbort: a script failed.
            HooksFailure: there were nodes to ask, and nothing came back at all.
        """
        cluster = self._config.current()
        env = common_env(operation, cluster, self._data_dir)
        if operation.hooks is None:
            return Prepared(env=env, nodes=None)
        env.update(_prefixed("GANETI_", operation.hook_env(cluster)))
        prepared = Prepared(env=env, nodes=operation.hook_nodes(cluster))
        await self._run_before(operation, prepared, feedback)
        return prepared

    async def after(
        self, operation: AnyOperation, prepared: Prepared, feedback: IFeedback
    ) -> Mapping[NodeId, Outcome[Any]]:
        """Run the scripts that may complain; what they said is also given back."""
        if operation.hooks is None or prepared.nodes is None:
            return {}
        cluster = self._config.current()
        env = {**prepared.env, **_prefixed("GANETI_POST_", _env_after(operation, cluster))}
        nodes = _nodes_after(operation, cluster, prepared.nodes)
        outcomes = await self._run(operation.hooks.path, POST, nodes.post, env)
        for node, results in _answers(outcomes, cluster, feedback):
            for result in results:
                if result.code == FAILED:
                    feedback.warning(f"hook {result.script} failed on node {node}: {result.output}")
        return outcomes

    async def config_changed(self, prepared: Prepared, feedback: IFeedback) -> None:
        """Run the scripts for a changed configuration, on the master."""
        cluster = self._config.current()
        outcomes = await self._run(CONFIG_UPDATE, POST, (cluster.settings.master_node,), prepared.env)
        for node, results in _answers(outcomes, cluster, feedback):
            for result in results:
                if result.code == FAILED:
                    feedback.warning(f"hook {result.script} failed on node {node}: {result.output}")

    async def _run_before(self, operation: AnyOperation, prepared: Prepared, feedback: IFeedback) -> None:
        assert operation.hooks is not None and prepared.nodes is not None
        cluster = self._config.current()
        outcomes = await self._run(operation.hooks.path, PRE, prepared.nodes.pre, prepared.env)
        if not outcomes and any(not cluster.nodes[node].offline for node in prepared.nodes.pre):
            raise HooksFailure(f"no node answered when the hooks of {operation.hooks.path} were to be run")
        failures = [
            (node, result.script, result.output)
            for node, results in _answers(outcomes, cluster, feedback)
            for result in results
            if result.code == FAILED
        ]
        if failures:
            raise HooksAbort(failures)

    async def _run(
        self, hpath: str, phase: str, nodes: Collection[NodeId], env: Mapping[str, str]
    ) -> Mapping[NodeId, Outcome[Any]]:
        if not nodes:
            return {}
        told = {**env, "GANETI_HOOKS_PHASE": phase, "GANETI_HOOKS_PATH": hpath}
        known = self._config.current().nodes
        wanted = [known[node] for node in dict.fromkeys(nodes) if node in known]
        return await self._hooks.run(hpath, phase, wanted, told)


def common_env(operation: AnyOperation, cluster: Cluster, data_dir: str) -> dict[str, str]:
    """Variables that every script gets, phase and path aside (plugins.md section 3.2)."""
    env = {
        "PATH": SEARCH_PATH,
        "GANETI_HOOKS_VERSION": VERSION,
        "GANETI_OP_CODE": operation.op.op_id(),
        "GANETI_DATA_DIR": data_dir,
        "GANETI_CLUSTER": cluster.name,
        "GANETI_MASTER": cluster.master.name,
    }
    if operation.hooks is not None:
        env["GANETI_OBJECT_TYPE"] = operation.hooks.target.value
    return env


def _prefixed(prefix: str, env: Mapping[str, str]) -> dict[str, str]:
    return {prefix + name: value for name, value in env.items()}


def _env_after(operation: AnyOperation, cluster: Cluster) -> Mapping[str, str]:
    try:
        return operation.hook_env(cluster)
    except (GanetiError, KeyError):
        # The object is gone, which is what some operations are for.
        return {}


def _nodes_after(operation: AnyOperation, cluster: Cluster, before: HookNodes) -> HookNodes:
    """Where scripts run afterwards: nodes known only now, and those of an object that is gone."""
    try:
        return operation.hook_nodes(cluster)
    except (GanetiError, KeyError):
        return before


def _answers(
    outcomes: Mapping[NodeId, Outcome[Any]], cluster: Cluster, feedback: IFeedback
) -> list[tuple[str, tuple[HookResult, ...]]]:
    """Results by name of node; nodes that could not be asked are mentioned."""
    found = []
    for node, outcome in outcomes.items():
        name = cluster.nodes[node].name if node in cluster.nodes else node
        match outcome:
            case Answer(value):
                found.append((name, tuple(value)))
            case NodeFailed() as failed:
                feedback.warning(f"no hooks were run on node {name}: {failed.reason}")
    return found
