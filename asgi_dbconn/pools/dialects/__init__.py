"""The drivers: how each connects, is interrupted, reset and closed, and what its errors mean."""
