"""Many masks of one model, measured alike and set side by side."""
