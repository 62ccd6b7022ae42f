"""The provider's events."""
