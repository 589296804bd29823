"""How the embedded model ``nano`` was made and measured; its README shows the commands."""
