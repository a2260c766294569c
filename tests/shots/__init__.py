"""Runs flood for the documentation, and keeps what it prints there."""
