"""Reading and writing without a Session, where that has the same result."""
