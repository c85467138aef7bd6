"""Health checks: which databases answer, for callers that ask often."""
