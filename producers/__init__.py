"""Who sends: files and calls become cases, and cases become batches on the jobs queue."""
