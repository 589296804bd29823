"""Sharing tickets through the Hugging Face Hub."""
