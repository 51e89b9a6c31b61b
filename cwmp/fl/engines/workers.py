"""Worker processes for the local engine."""
