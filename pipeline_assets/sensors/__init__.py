"""What looks at the data by itself, and tells, or asks for the runs that are wanted."""
