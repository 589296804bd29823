"""From a ticket and a task to a fine-tuned model and its metrics."""
