"""One module per outside system. What is computed from data does not belong here, but in market."""
