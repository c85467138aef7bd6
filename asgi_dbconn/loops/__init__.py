"""What a process knows about its event loops."""
