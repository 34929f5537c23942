"""One module of routes per use case."""
