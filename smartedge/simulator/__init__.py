"""The simulator: the balancer's own decisions, in virtual time, against modelled backends."""
