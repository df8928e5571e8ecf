"""Engines behind the storage plugins: command lines, parsers, blocking calls."""
