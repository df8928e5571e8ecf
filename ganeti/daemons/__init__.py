"""Composition roots: each daemon built from its parts."""
