"""One request's way, door to door: bytes in, a backend's answer out."""
