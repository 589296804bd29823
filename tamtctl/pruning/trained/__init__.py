"""Masks that are found by training."""
