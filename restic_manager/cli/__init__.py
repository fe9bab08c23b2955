"""Floor 5. The terminal: one file a noun, one renderer, and the only `trio.run`."""
