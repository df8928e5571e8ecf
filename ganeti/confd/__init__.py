"""The configuration daemon: signed questions, signed answers."""
