"""Floors that run under functions-framework."""
