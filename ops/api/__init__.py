"""The HTTP API: for the operator's pipelines and desks, and for platforms that answer later."""
