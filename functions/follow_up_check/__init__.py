"""The sweep, every five minutes."""
