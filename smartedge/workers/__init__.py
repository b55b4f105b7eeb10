"""Several processes as one: places, rows, the leader, generations. No request is known here."""
