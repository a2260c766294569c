"""Trials of flood's real processes under kills and faults."""
