"""How many neurons a model may keep to reach a wanted latency: measured before a search."""
