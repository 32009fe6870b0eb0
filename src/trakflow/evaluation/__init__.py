"""How good attributions are: the linear datamodeling score, and the removal of what they rank highest."""
