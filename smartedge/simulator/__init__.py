"""The balancer in virtual time."""
