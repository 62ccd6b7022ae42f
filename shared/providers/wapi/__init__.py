"""The provider: what its answers and events mean (pure), and the client that asks it."""
