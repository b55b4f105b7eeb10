"""What is due, how it is kept; the program itself is tested against a real authority (tests/live/test_acme.py)."""
