"""Query fields: one row per field, one module per resource."""
