"""What confd answers: a pure function of the question and of the configuration."""

from __future__ import annotations

from ganeti.model.cluster import Cluster
from ganeti.wire.confd_messages import PROTOCOL, Reply, ReplyStatus, Request, RequestType

NO_CONFIGURATION = "this node has no configuration; ask a master candidate"


def answer(request: Request, cluster: Cluster | None) -> Reply:
    """The answer.

    Args:
        request: whose signature was right.
        cluster: None where there is no configuration: on nodes that are not master candidates.
    """
    if request.protocol != PROTOCOL:
        return _error(f"protocol {request.protocol} is not spoken here, only {PROTOCOL}")
    if cluster is None:
        return _error(NO_CONFIGURATION)
    match request.type:
        case RequestType.PING:
            return Reply(status=ReplyStatus.OK, answer=cluster.version)
        case _:
            return Reply(
                status=ReplyStatus.NOT_IMPLEMENTED, answer=f"requests of type {request.type} are not answered"
            )


def _error(text: str) -> Reply:
    return Reply(status=ReplyStatus.ERROR, answer=text)
