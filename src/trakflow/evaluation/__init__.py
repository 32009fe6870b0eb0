"""How good attributions are: the linear datamodeling score."""
