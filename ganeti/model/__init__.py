"""Values: the cluster and everything in it, immutable and typed. Pure."""
