"""The ticket folder, byte by byte."""
