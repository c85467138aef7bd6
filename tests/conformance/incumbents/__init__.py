"""The lifespan checks, run against the wrappers that people use today."""
