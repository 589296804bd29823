"""Every source of text that a user can name, read as a stream of documents."""
