"""Traffic: how road users that nobody controls move."""
