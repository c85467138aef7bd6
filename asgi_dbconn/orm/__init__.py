"""The thin query layer: immutable descriptions of queries over plain SQLAlchemy models."""
