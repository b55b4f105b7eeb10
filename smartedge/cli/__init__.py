"""`python -m smartedge`: one file a command, and what the commands share."""
