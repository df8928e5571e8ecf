"""Checks of cluster verify: facts in, findings out; one module per subject."""
