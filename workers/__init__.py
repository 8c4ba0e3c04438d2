"""Who does the work: takes batches from the jobs queue, calls the platforms, and says what came of it."""
