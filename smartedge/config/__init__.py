"""`backends.json`, variables and flags: parsed once, strictly, into one frozen Config."""
