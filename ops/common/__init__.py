"""What the commands of ops have in common: the database read over HTTP, its rows, and words for people."""
