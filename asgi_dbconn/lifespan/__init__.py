"""The lifespan conversation between a server, an application, and what lives as long as both."""
