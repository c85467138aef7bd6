"""One program for each peer: it executes portable histories with that object mapper.

They run in environments of their own, so they import nothing of the package.
"""
