"""Storage plugins: each module has an object that provides `IStorageBackend`."""

from ganeti.plugins import plugin_directories

__path__ = plugin_directories("storage", __path__)
