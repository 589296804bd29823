"""The loop that search and fine-tuning share, and what looks after it."""
