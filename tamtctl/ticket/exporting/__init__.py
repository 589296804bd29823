"""Exporting: a ticket or a checkpoint as other tools load it."""
