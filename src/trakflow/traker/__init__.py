"""The notebook's door to the engine: a class with the interface of the paper's own library."""
