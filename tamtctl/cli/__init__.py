"""What is typed, and what is seen: the commands, their options, and every table on a screen."""
