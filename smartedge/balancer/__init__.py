"""The domain: which backend a request goes to, and what is known of each. Standard library, no socket, no clock, no log."""
