"""Model output functions, one file a task."""
