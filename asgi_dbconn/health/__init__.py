"""Whether the databases answer, for those who ask often."""
