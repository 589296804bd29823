"""What a mask is trained for."""
