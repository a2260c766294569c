"""Measures flood beside its peers."""
