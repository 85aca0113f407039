"""A bundle to a Triton repository, a server to run it, and a client. `repository` makes it, `server` runs it."""
