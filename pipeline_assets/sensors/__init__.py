"""Sensors: declarations that call a rule of collection/, and request runs or report what it found."""
