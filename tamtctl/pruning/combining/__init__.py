"""Tickets that are made of several tickets of one model, by votes."""
