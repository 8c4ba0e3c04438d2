"""The console: server-drawn pages for the people who watch, at `/console` beside the HTTP API."""
