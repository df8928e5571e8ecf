"""Files that nodes must have, must not have, and have alike. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from enum import Enum

import msgspec

from ganeti.logic.verify.facts import NodeReport
from ganeti.logic.verify.findings import Findings, VerifyCode, error
from ganeti.model.cluster import Cluster
from ganeti.model.names import nice_key
from ganeti.model.node import Node
from ganeti.model.paths import Paths


class Where(Enum):
    """Nodes that have a file."""

    EVERYWHERE = "everywhere"
    CANDIDATES = "candidates"
    """And nobody else: it must be gone where a node was demoted."""


class FileRule(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of one file."""

    path: str
    """Without the root of a virtual node."""
    where: Where = Where.EVERYWHERE
    is_required: bool = True
    is_alike: bool = True
    """All that have it have the same content."""


def _rules(paths: Paths) -> tuple[FileRule, ...]:
    # config.data is a snapshot that each candidate takes when it suits it. The other ssconf files
    # change too often: while one is on its way, nodes differ for a moment.
    return (
        FileRule(path=paths.ca_file),
        FileRule(path=paths.hmac_key_file),
        FileRule(path=paths.ssconf("cluster_name")),
        FileRule(path=paths.ssconf("master_node")),
        FileRule(path=paths.ssconf("master_ip")),
        FileRule(path=paths.config_file, where=Where.CANDIDATES, is_alike=False),
        FileRule(path=paths.ca_key_file, where=Where.CANDIDATES, is_required=False),
        FileRule(path=paths.domain_secret_file, is_required=False),
        FileRule(path=paths.rapi_users_file, is_required=False),
    )


RULES = _rules(Paths())


def paths_to_check() -> tuple[str, ...]:
    """Files whose checksums nodes are asked for."""
    return tuple(rule.path for rule in RULES)


def file_findings(cluster: Cluster, reports: Collection[tuple[Node, NodeReport]]) -> Findings:
    """What is wrong with the files of nodes.

    Args:
        cluster: the configuration.
        reports: of nodes that answered; also of nodes of other groups, to compare with.
    """
    told = []
    for node, report in reports:
        if report.filelist is not None:
            told.append((node, report.filelist))
        elif "filelist" not in report.check_errors:
            yield error(VerifyCode.ENODEFILECHECK, node.name, "it gave no checksums of its files")
    for rule in RULES:
        for text in _problems(rule, told):
            yield error(VerifyCode.ECLUSTERFILECHECK, cluster.name, text)


def _problems(rule: FileRule, told: Collection[tuple[Node, Mapping[str, str]]]) -> Iterator[str]:
    versions: dict[str, list[str]] = {}
    missing: list[str] = []
    unwanted: list[str] = []
    for node, checksums in told:
        belongs = rule.where is Where.EVERYWHERE or node.master_candidate
        checksum = checksums.get(rule.path)
        if checksum is None:
            if belongs and rule.is_required:
                missing.append(node.name)
        elif not belongs:
            unwanted.append(node.name)
        else:
            versions.setdefault(checksum, []).append(node.name)
    if missing:
        yield f"file {rule.path} is missing on {_names(missing)}; 'gnt-cluster redist-conf' sends it again"
    if unwanted:
        yield f"file {rule.path} must not be on {_names(unwanted)}, no master candidate; remove it there"
    if rule.is_alike and len(versions) > 1:
        variants = "; ".join(
            f"variant {number} on {_names(names)}"
            for number, names in enumerate(
                sorted(versions.values(), key=lambda names: (-len(names), names)), 1
            )
        )
        yield f"file {rule.path} has {len(versions)} different contents: {variants}"


def _names(names: Collection[str]) -> str:
    shown = sorted(names, key=nice_key)
    more = f" and {len(shown) - 10} more" if len(shown) > 10 else ""
    return ", ".join(shown[:10]) + more
