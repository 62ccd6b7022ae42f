"""Delivers events again that could not be kept; see ``cli``."""
