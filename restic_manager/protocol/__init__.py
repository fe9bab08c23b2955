"""Floor 1. What peers say: messages, their codec, session decisions without I/O, and the operators' API types."""
