"""HTTP as bytes, sockets and TLS: no backend and no app is known here."""
