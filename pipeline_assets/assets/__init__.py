"""Declarations of the assets and their checks, a module a layer; what they share is in layer.py. No logic."""
