"""The command line: a thin skin over the inspector, the run and the roles."""
