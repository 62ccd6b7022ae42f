"""One folder a function: HTTP in, shared call, HTTP out."""
