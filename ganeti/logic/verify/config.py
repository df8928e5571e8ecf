"""What is wrong with the configuration itself and with the certificates of the master. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ganeti.logic.config_check import ESTABLISHED, Known, check_config
from ganeti.logic.verify.facts import NodeReport
from ganeti.logic.verify.findings import Findings, VerifyCode, error, warning
from ganeti.model.cluster import Cluster
from ganeti.model.paths import Paths

_OWN = Paths()
CERTIFICATES = (_OWN.ca_file, _OWN.node_cert_file, _OWN.client_cert_file, _OWN.rapi_cert_file)
"""Files that the master must have."""
MASTER_CHECKS = {"client-cert": None, "filelist": list(CERTIFICATES)}
"""What the master is asked for the certificates."""


def config_findings(cluster: Cluster, known: Known = ESTABLISHED) -> Findings:
    """Inconsistencies of the configuration, without objects that lead nowhere."""
    for found in check_config(cluster, known):
        text = found.text if found.kind == "cluster" else f"{found.kind} {found.name}: {found.text}"
        yield error(VerifyCode.ECLUSTERCFG, cluster.name, text)


def master_certificate_findings(cluster: Cluster, report: NodeReport | None, failure: str | None) -> Findings:
    """What is wrong with the certificates of the master.

    Args:
        cluster: the configuration.
        report: what the master said to `MASTER_CHECKS`; None: nothing.
        failure: why.
    """
    code = VerifyCode.ECLUSTERCERT
    if report is None:
        yield error(code, cluster.name, f"the certificates of the master could not be checked: {failure}")
        return
    for name, reason in report.check_errors.items():
        yield error(code, cluster.name, f"check {name} could not be made on the master: {reason}")
    for path in CERTIFICATES:
        if report.filelist is not None and path not in report.filelist:
            yield error(code, cluster.name, f"certificate {path} is missing on the master")
    if report.client_cert is not None and report.client_cert[0] is not None:
        level, text = report.client_cert
        make = warning if level == "WARNING" else error
        yield make(code, cluster.name, text)


def hvparam_findings(cluster: Cluster, problems: Iterable[tuple[str, str, str]]) -> Findings:
    """Hypervisor parameters that contradict each other.

    Args:
        cluster: the configuration.
        problems: where they come from, hypervisor, reason.
    """
    for source, hypervisor, reason in problems:
        text = f"parameters of hypervisor {hypervisor} ({source}): {reason}"
        yield error(VerifyCode.ECLUSTERCFG, cluster.name, text)


def dangling_findings(cluster: Cluster) -> Findings:
    """Nodes in groups that do not exist, and instances on nodes that do not exist."""
    for node in cluster.nodes.values():
        if node.group not in cluster.groups:
            text = f"its group {node.group} does not exist"
            yield error(VerifyCode.ECLUSTERDANGLINGNODES, node.name, text)
    for instance in cluster.instances.values():
        if instance.primary_node not in cluster.nodes:
            text = f"this node does not exist, but is the primary node of instance {instance.name}"
            yield error(VerifyCode.ECLUSTERDANGLINGINST, instance.primary_node, text)
