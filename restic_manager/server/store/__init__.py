"""The server's memory: one schema, one writer with group commit, one module of questions and changes a noun."""
