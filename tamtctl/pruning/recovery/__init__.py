"""Recovering a ticket: its surviving weights are trained against the dense model."""
