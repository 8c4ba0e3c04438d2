"""Run one role with the waits of beat and sweeps cut to seconds: `python -m tests.hurried beat`.

Everything else is the real process. Here and not in the product, since nobody else needs such a setting.
"""

import backends.sweeps
import ops.sweeping
import workers.beat
from ops.cli.main import main

backends.sweeps.LEASE_S = 3  # type: ignore[misc]
# So far away that only beat can bring about a look.
ops.sweeping._SELF_S = 3600.0  # type: ignore[misc]
workers.beat.EVERY_S = 1.0  # type: ignore[misc]
workers.beat.LOCK_S = 3  # type: ignore[misc]
workers.beat.LOOP_S = 1  # type: ignore[misc]

if __name__ == "__main__":
    main()
