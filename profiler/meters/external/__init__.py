"""A meter of the user's own, told over a file, a pipe or a web server; see `meter`."""
