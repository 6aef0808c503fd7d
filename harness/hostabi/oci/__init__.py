"""OCI bundles, the runtimes that run them, and what the probe inside saw."""
