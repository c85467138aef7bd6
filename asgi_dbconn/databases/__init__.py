"""One database: who counts on it, its pools by loop, and the scopes in which it is used."""
