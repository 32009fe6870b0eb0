"""The experiment's configuration: composed by Hydra, checked by pydantic, without importing torch."""
