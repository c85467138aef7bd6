"""Connections of one database on one event loop: opened, queued for, counted, drained."""
