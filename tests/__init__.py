"""The tests, with the servers that they run against."""
