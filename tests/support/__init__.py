"""What the tests stand on: a real database server, a hostile network, real server processes."""
