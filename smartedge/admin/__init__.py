"""The operator's pages: status, metrics, reload, what may be done to a backend, and why a request went where it went."""
