"""What facts mean. Pure: no clock, no network, no environment."""
