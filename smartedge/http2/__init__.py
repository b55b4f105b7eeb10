"""HTTP/2 (RFC 9113), at either end of a connection: frames, streams, windows, fields."""
