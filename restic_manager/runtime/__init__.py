"""Floor 2. The process around the program: clock and wake-ups, signals, logging, redaction, data directories."""
