"""Cluster manager for virtual machines: daemons, operations and plugins."""
