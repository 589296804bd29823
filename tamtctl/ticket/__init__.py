"""The ticket: a binary mask of an encoder with its metadata; its format, use and exchange."""
