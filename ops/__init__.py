"""Who watches: the inspector, the command line, the live view, the report and the all-in-one run."""
