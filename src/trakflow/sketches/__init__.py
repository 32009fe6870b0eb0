"""Sketches: from (model, task, batch) to k features an example. One file a sketch."""
