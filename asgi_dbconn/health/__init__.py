"""The health of the databases: whether they answer, for callers that ask often."""
