"""How a mask is found."""
