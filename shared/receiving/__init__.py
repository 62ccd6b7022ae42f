"""See to it that the events of lines reach us: chores of the housekeeping."""
