"""Model families, one file each, and reading their weights."""
