"""Parts of the node daemon."""
