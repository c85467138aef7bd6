"""The applications with synchronous code that the servers of these tests serve."""
