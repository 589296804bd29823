"""What a ticket is worth: tasks with labels, fine-tuning on them, and evaluation."""
