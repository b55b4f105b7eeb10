"""Automatic certificates: got and renewed from an authority (RFC 8555), and kept in a folder that all workers read."""
