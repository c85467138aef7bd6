"""Metrics of the pools for monitoring tools; each needs an extra of its own."""
