"""Tables of parameters: one row per parameter and its meaning."""
