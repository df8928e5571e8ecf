"""Who a certificate speaks for: a role, a node, a cluster. Written into certificates and read from them."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Role(StrEnum):
    """What the holder of a certificate may be taken for."""

    NODE = "node"
    """Node daemon of one node."""
    MASTER = "master"
    """Whoever may call functions on nodes."""
    RAPI = "rapi"
    """Remote HTTP interface."""


IDENTITY_OID = "2.25.297150925404140852320059516274747216110"
"""Private X.509 extension with the identity: SEQUENCE OF UTF8String role, node uuid, cluster uuid.

Made from a random UUID as X.667 describes, so that no registration is needed.
"""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The private extension of a certificate."""

    role: Role
    node_uuid: str
    cluster_uuid: str
