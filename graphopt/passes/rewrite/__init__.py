"""Exact passes that write the same function with operators that the runtime runs fast."""
