"""Parts of the watcher and the cleaner: blocking code that knows masterd by its client socket only."""
