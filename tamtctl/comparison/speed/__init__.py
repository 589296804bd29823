"""How large and how fast models are, each beside the dense one."""
