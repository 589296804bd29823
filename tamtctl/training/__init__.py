"""The loop that search and fine-tuning share, with its checkpoints, logs and run folders."""
