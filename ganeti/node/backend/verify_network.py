"""Checks whether a node reaches the others and the master's address (rpc.md section 3)."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from ganeti.interfaces import IHost
from ganeti.node.backend.registry import NodeWorld
from ganeti.node.backend.verify_system import Check

NODED_PORT = 1811
"""Port of the node daemon; only whether it can be connected to counts."""

_CONNECT_S = 4.0
_AT_ONCE = 64

_Peer = tuple[str, str, str]


def node_net_test(node: NodeWorld, argument: Any) -> Mapping[str, str]:
    """Nodes that this one does not reach, with the reason; only candidates try."""
    peers, candidates = msgspec.convert(argument, tuple[tuple[_Peer, ...], tuple[str, ...]])
    if node.host.name not in candidates:
        return {}
    others = [peer for peer in peers if peer[0] != node.host.name]
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        problems = pool.map(lambda peer: _peer_problem(node.host, peer), others)
        return {peer[0]: problem for peer, problem in zip(others, problems, strict=True) if problem}


def master_ip(node: NodeWorld, argument: Any) -> bool | None:
    """Whether the master's address answers; None: this node is no candidate and does not try."""
    master, address, candidates = msgspec.convert(argument, tuple[str, str, tuple[str, ...]])
    host = node.host
    if host.name not in candidates:
        return None
    source = "127.0.0.1" if host.name == master and ":" not in address else None
    return connection_problem(address, source=source) is None


def connection_problem(address: str, *, source: str | None, port: int = NODED_PORT) -> str | None:
    """Why a TCP connection cannot be made, or None."""
    try:
        socket.create_connection(
            (address, port), timeout=_CONNECT_S, source_address=(source, 0) if source else None
        ).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


NETWORK_CHECKS: Mapping[str, Check] = {"node-net-test": node_net_test, "master-ip": master_ip}


def _peer_problem(host: IHost, peer: _Peer) -> str | None:
    _, primary_ip, secondary_ip = peer
    problems = []
    reason = connection_problem(primary_ip, source=host.primary_ip or None)
    if reason is not None:
        problems.append(f"primary address {primary_ip} cannot be reached: {reason}")
    if secondary_ip != primary_ip:
        reason = connection_problem(secondary_ip, source=host.secondary_ip or None)
        if reason is not None:
            problems.append(f"secondary address {secondary_ip} cannot be reached: {reason}")
    return "; ".join(problems) or None
