"""One file a subcommand of ``cwmp``: parse, call the library, print."""
