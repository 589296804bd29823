"""From a configuration to a ticket."""
