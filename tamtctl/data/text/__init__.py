"""Sources of text that a user can name, read as streams of documents."""
