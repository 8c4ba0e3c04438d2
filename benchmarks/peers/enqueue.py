"""`python -m benchmarks.peers.enqueue MODULE`: queue all jobs with one peer, as its users do."""

import importlib
import os
import sys

from benchmarks.peers.job import jobs


def main() -> None:
    """Queue them."""
    importlib.import_module(sys.argv[1]).send(jobs(int(os.environ["BENCH_COUNT"]), seed=int(os.environ["BENCH_SEED"])))


if __name__ == "__main__":
    main()
