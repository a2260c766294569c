"""The schema's numbered steps, applied in order and never changed afterwards."""
