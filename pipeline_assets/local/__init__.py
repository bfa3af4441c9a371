"""The embedded stack: stand-ins that speak the real protocols, and what supervises them."""
