"""The stages of the workflow, one file each: read files, call the library, write files."""
