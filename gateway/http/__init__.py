"""The HTTP shell: handlers, listings, administration, the application's wiring."""
