"""Parts of the master daemon."""
