"""Recovering a ticket: the weights that it keeps are trained against the dense model."""
