"""Test with a real edge: `pip install smartedge[test]` gives pytest the fixtures `edge`, `backends` and two that make more.

docs/testing.md shows how. Nothing here is imported by the edge itself.
"""
