"""How many neurons a model may keep to be as fast as is asked for: measured before a search."""
