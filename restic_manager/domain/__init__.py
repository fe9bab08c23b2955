"""Floor 0. Pure values and decisions: no I/O, no await, no clock, no logging. `now` is always an argument."""
