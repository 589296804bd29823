"""The commands, one a module: what each asks for, calls and shows."""
