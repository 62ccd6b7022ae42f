"""The tier that is run again and again: ``make unit`` takes fewer examples of each property than ``make test``."""

from hypothesis import settings

settings.register_profile("loop", max_examples=25)
