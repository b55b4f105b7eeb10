"""Where backends come from: the file, and the addresses of names."""
