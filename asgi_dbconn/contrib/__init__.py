"""Metrics of the pools, for the tools that watch applications; each needs an extra of its own."""
