"""Labelled examples, from wherever they come."""
