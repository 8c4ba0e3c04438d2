"""The contract: what two processes must agree on. No I/O; imports nothing else of this project."""
