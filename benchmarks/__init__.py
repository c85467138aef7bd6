"""What the package costs, measured against its peers: ``python -m benchmarks``."""
