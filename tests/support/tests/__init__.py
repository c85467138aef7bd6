"""The test infrastructure itself is tested: each oracle must be able to fail."""
