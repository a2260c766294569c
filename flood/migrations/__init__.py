"""The schema's numbered steps, applied in order, never changed afterwards."""
