"""Long runs over real servers with faults: what the platform does for hours, not in one step."""
