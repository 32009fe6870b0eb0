"""How good attributions are: the linear datamodeling score, removal of what they rank highest, wrong labels."""
