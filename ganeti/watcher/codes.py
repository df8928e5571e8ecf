"""Exit codes of the watcher."""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_NOT_MASTER = 11
EXIT_NOT_CLUSTER = 12
EXIT_MANAGED = 20
"""Of a child: another process looks after this node group now (S2.3-065)."""
