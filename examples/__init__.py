"""Complete examples, shipped with the package."""
