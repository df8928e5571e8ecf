"""What is wrong with nodes, by what they said of themselves. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ganeti.logic.verify.facts import NodeAnswer, NodeReport
from ganeti.logic.verify.findings import Findings, VerifyCode, error, warning
from ganeti.model.cluster import Cluster
from ganeti.model.node import Node
from ganeti.version import PROTOCOL_VERSION, RELEASE

MAX_SKEW_S = 150.0
"""Difference of clocks that is still all right."""

_CODE_OF_CHECK: Mapping[str, VerifyCode] = {
    "hypervisor": VerifyCode.ENODEHV,
    "hvparms": VerifyCode.ENODEHV,
    "hvinfo": VerifyCode.ENODEHV,
    "oslist": VerifyCode.ENODEOS,
    "bridges": VerifyCode.ENODENET,
    "node-net-test": VerifyCode.ENODENET,
    "master-ip": VerifyCode.ENODENET,
    "filelist": VerifyCode.ENODEFILECHECK,
    "time": VerifyCode.ENODETIME,
    "nodesetup": VerifyCode.ENODESETUP,
    "user-scripts": VerifyCode.ENODEUSERSCRIPTS,
    "oob-paths": VerifyCode.ENODEOOBPATH,
    "allowed-file-storage-paths": VerifyCode.ENODEFILESTORAGEPATHS,
    "file-storage-path": VerifyCode.ENODEFILESTORAGEPATHUNUSABLE,
    "shared-file-storage-path": VerifyCode.ENODESHAREDFILESTORAGEPATHUNUSABLE,
    "gluster-storage-path": VerifyCode.ENODEGLUSTERSTORAGEPATHUNUSABLE,
}
"""What it means that a check could not be made; of others: ENODERPC."""


def node_findings(cluster: Cluster, node: Node, answer: NodeAnswer) -> Findings:
    """What is wrong with one online node.

    A node that speaks another protocol is asked nothing more: what it says may mean something else.
    """
    report = answer.report
    if report is None:
        yield error(VerifyCode.ENODERPC, node.name, f"it could not be asked: {answer.failure}")
        return
    protocol, release = report.version or (PROTOCOL_VERSION, RELEASE)
    if protocol != PROTOCOL_VERSION:
        text = f"it speaks protocol version {protocol}, the master {PROTOCOL_VERSION}; install one release"
        yield error(VerifyCode.ENODEVERSION, node.name, text)
        return
    if release != RELEASE:
        text = f"it has release {release}, the master {RELEASE}"
        yield warning(VerifyCode.ENODEVERSION, node.name, text)
    for name, reason in report.check_errors.items():
        if name == "client-cert":
            # Told among the certificates.
            continue
        code = _CODE_OF_CHECK.get(name, VerifyCode.ENODERPC)
        yield error(code, node.name, f"check {name} could not be made: {reason}")
    yield from _time(node, answer, report)
    for code, text in _problems(cluster, report):
        yield error(code, node.name, text)


def certificate_findings(cluster: Cluster, node: Node, report: NodeReport) -> Findings:
    """What is wrong with the certificate of a node, and with its entry in the list of candidates."""
    code = VerifyCode.ECLUSTERCLIENTCERT
    reason = report.check_errors.get("client-cert")
    if reason is not None:
        yield error(code, cluster.name, f"the certificate of node {node.name} could not be checked: {reason}")
    if report.client_cert is None:
        return
    problem, text = report.client_cert
    if problem is not None:
        make = warning if problem == "WARNING" else error
        yield make(code, cluster.name, f"node {node.name}: {text}")
        return
    listed = cluster.settings.candidate_certs.get(node.uuid)
    if listed is not None and not node.master_candidate:
        yield error(
            code, cluster.name, f"node {node.name} is no master candidate, but its certificate counts as one"
        )
    elif listed is not None and listed != text:
        yield error(code, cluster.name, f"node {node.name} has another certificate than is recorded of it")


def _time(node: Node, answer: NodeAnswer, report: NodeReport) -> Findings:
    if report.time is None:
        return
    seconds = report.time[0] + report.time[1] / 1_000_000
    if seconds < answer.asked_at - MAX_SKEW_S:
        off = answer.asked_at - seconds
        text = f"its clock is at least {off:.1f} s behind that of the master"
    elif seconds > answer.answered_at + MAX_SKEW_S:
        off = seconds - answer.answered_at
        text = f"its clock is at least {off:.1f} s ahead of that of the master"
    else:
        return
    yield error(VerifyCode.ENODETIME, node.name, f"{text}; let both follow a time server")


def _problems(cluster: Cluster, report: NodeReport) -> Iterator[tuple[VerifyCode, str]]:
    for text in report.nodesetup or ():
        yield VerifyCode.ENODESETUP, text
    for hypervisor, defect in (report.hypervisor or {}).items():
        if defect is not None:
            yield VerifyCode.ENODEHV, f"hypervisor {hypervisor}: {defect}"
    for source, hypervisor, problem in report.hvparms or ():
        yield VerifyCode.ENODEHV, f"parameters of hypervisor {hypervisor} ({source}): {problem}"
    if report.bridges:
        yield VerifyCode.ENODENET, f"missing bridges: {', '.join(report.bridges)}"
    for peer, problem in (report.node_net_test or {}).items():
        yield VerifyCode.ENODENET, f"it does not reach node {peer}: {problem}"
    if report.master_ip is False:
        yield VerifyCode.ENODENET, f"it does not reach the master's address {cluster.settings.master_ip}"
    if report.user_scripts:
        texts = ", ".join(report.user_scripts)
        yield VerifyCode.ENODEUSERSCRIPTS, f"missing or not executable: {texts}"
    for lack in report.oob_paths or ():
        if lack is not None:
            yield VerifyCode.ENODEOOBPATH, f"out-of-band program: {lack}"
    if report.allowed_paths:
        texts = ", ".join(report.allowed_paths)
        yield VerifyCode.ENODEFILESTORAGEPATHS, f"directories that must not be allowed for disks: {texts}"
    for code, what, trouble in (
        (VerifyCode.ENODEFILESTORAGEPATHUNUSABLE, "file storage", report.file_dir),
        (VerifyCode.ENODESHAREDFILESTORAGEPATHUNUSABLE, "shared file storage", report.shared_file_dir),
        (VerifyCode.ENODEGLUSTERSTORAGEPATHUNUSABLE, "gluster storage", report.gluster_dir),
    ):
        if trouble is not None:
            yield code, f"directory for {what}: {trouble}"
