"""A small notes application that shows the package at work; it is what `make run` serves."""
