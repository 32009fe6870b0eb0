"""Figures, one file each, in one style; each is written as svg, png and the csv that it shows."""
