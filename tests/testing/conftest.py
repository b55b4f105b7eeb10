"""The plugin as it is in a project where SmartEdge is installed."""

from smartedge.testing.plugin import backends, edge, make_backend, make_edge

__all__ = ["backends", "edge", "make_backend", "make_edge"]
