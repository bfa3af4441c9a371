"""What looks at the data and tells, without launching runs for its own work."""
