"""Data sets, one file each, and the arrays that the workflow keeps of them."""
