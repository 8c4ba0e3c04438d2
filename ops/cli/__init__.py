"""The command line: a thin skin over the inspector, the run and the roles."""

import gc

# Here, before anything else is imported. By itself Python looks for cycles after each 700 new objects, which is a sixth
# of what a process takes to import our modules. What now waits for it is a few megabytes at the most.
gc.set_threshold(50_000)
