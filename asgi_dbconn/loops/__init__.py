"""The knowledge of a process about its event loops."""
