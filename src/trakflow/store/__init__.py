"""Files on disk: whole or absent, and what they hold checked when they are read."""
