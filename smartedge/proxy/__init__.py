"""A request's way to a backend and back."""
