"""Allocator plugins: each module has an object that provides `IAllocator`."""

from ganeti.plugins import plugin_directories

__path__ = plugin_directories("iallocators", __path__)
