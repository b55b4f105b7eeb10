"""Probes: when each backend is asked, how, and what its answer means."""
