"""The domain: which backend gets a request, and what is known of it. Standard library only; no I/O, no wall clock."""
