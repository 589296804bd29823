"""The artefact: the binary mask of an encoder, with what it is and where it comes from."""
