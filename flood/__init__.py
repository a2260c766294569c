"""flood: a durable upload spool for S3-compatible stores."""

__version__ = "0.1.0"
