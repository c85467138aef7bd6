"""Migrations with Alembic, for every database of a registry, on its own drivers."""
