"""The HTTP server measured: a client, its reports, and what is measured against it."""
