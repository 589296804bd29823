"""What a finished model or ticket is worth: metrics on tasks, losses on held-out text."""
