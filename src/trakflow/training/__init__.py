"""Training checkpoints one by one, and many subset models as one stacked ensemble."""
