"""Release and protocol numbers, the one place where they stand."""

RELEASE = "0.1.0"
"""Release of this project."""

VCS_VERSION = f"v{RELEASE}"
"""Build version as shown by `gnt-X --version` and the query field `vcs_version`."""

CONFIG_VERSION = 3010000
"""Version of config.data that is written: major * 1000000 + minor * 10000 + revision."""

PROTOCOL_VERSION = 3010000
"""Version of the node protocol; nodes with another one are refused."""

OS_API_VERSIONS = (10, 15, 20)
"""Versions of the interface of OS definitions that are understood."""

EXPORT_VERSION = 0
"""Version of the config.ini of instance exports."""

HOOKS_VERSION = 2
"""Value of GANETI_HOOKS_VERSION in the environment of hooks."""

IALLOCATOR_VERSION = 2
"""Version of the JSON spoken with external instance allocators."""

RAPI_VERSION = 2
"""Version of the remote HTTP interface, the first part of its paths."""
