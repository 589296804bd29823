"""Evaluation of finished models and tickets: metrics on tasks, losses on held-out text."""
