"""Calls from the master to nodes: arguments and results, typed, one class for each function."""
