"""When runs are made by the clock or by hand: jobs and their schedules. What they run is in assets."""
