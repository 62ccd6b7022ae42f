"""What an operator runs against a real project."""
