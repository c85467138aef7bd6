"""A checker for random histories: random programs, the log of a run, and a judge of the log."""
