"""What a node does: plain blocking functions, run in processes of their own."""
