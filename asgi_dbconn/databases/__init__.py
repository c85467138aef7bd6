"""One database: its reference count, its pools by loop, and the scopes in which it is used."""
