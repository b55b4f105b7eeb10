"""Configurations of nginx, HAProxy and Caddy made into backends.json: the plain cases, and a word on each other line."""
