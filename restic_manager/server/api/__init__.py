"""The operators' door: an HTTP API, one module a noun, thin over the store."""
