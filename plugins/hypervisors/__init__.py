"""Hypervisor plugins: each module has an object that provides `IHypervisor`."""

from ganeti.plugins import plugin_directories

__path__ = plugin_directories("hypervisors", __path__)
