"""What is written down: the access log, the console, the decisions about requests."""
