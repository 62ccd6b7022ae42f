"""What things are and what they mean. Pure: no clock, no environment, no logging, no network."""
