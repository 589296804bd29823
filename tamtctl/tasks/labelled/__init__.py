"""Labelled examples: finding, reading and splitting them."""
