"""Clients of the outside systems, and the documents and objects that are kept there. Rules are in market."""
