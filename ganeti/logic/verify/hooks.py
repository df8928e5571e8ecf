"""What hook scripts of a verification complained about. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ganeti.logic.verify.findings import Findings, VerifyCode, error
from ganeti.model.calls.outcome import Answer, NodeFailed, Outcome
from ganeti.model.cluster import Cluster
from ganeti.model.ids import NodeId

FAILED = 1
"""Code of a script that failed."""


def hook_findings(cluster: Cluster, outcomes: Mapping[NodeId, Outcome[Any]]) -> Findings:
    """Nodes whose hooks could not be run, and scripts that failed with what they printed."""
    for uuid, outcome in outcomes.items():
        node = cluster.nodes[uuid].name if uuid in cluster.nodes else uuid
        match outcome:
            case NodeFailed() as failed:
                text = f"its hooks could not be run: {failed.reason}"
                yield error(VerifyCode.ENODEHOOKS, node, text)
            case Answer(results):
                for result in results:
                    if result.code == FAILED:
                        text = f"hook {result.script} failed: {result.output.strip() or 'it printed nothing'}"
                        yield error(VerifyCode.ENODEHOOKS, node, text)
