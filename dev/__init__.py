"""Tools for working on the project: the local stack and what plays on it. Nothing here is deployed."""
