"""Look at every due line, decide, act."""
