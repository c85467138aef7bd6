"""The applications that the servers of these tests serve."""
