"""Where backends come from: sources of them, the addresses of names, and the file that a configuration is kept in."""
