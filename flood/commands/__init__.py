"""flood's commands, one module each."""
