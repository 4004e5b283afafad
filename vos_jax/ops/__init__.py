"""Pure functions on arrays: no parameters, no configuration, no state."""
