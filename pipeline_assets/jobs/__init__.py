"""Jobs, and the schedules that start them. The assets that jobs materialize are in assets/."""
