"""The databases of an application, by name, with one lifetime for all."""
