"""Pre-trained encoders: loading one, what its files hold, and which matrices can be masked."""
