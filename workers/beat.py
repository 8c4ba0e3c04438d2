"""Beat: asks once a minute for a look at the sweeps, and does nothing else.

RedBeat keeps its schedule and a lock in the status store, so any number may run and one ticks. A tick that is missed,
late or doubled changes nothing but how soon the look comes: what is due is decided from stored state, under a lease.
"""

from typing import Any, Final

from backends.bootstrap import Backends
from backends.sweeps import TICK_TASK
from schemas.batch import Lane

EVERY_S: Final = 60.0
# What nobody took in time is of no use any more: the next tick says the same.
EXPIRES_S: Final = 55
# Another beat takes over so long after one was killed; RedBeat's own default is 25 minutes.
LOCK_S: Final = 30
LOOP_S: Final = 5


def configure(backends: Backends) -> Any:
    """Return the Celery app of a beat."""
    app = backends.broker.app
    app.conf.update(
        redbeat_redis_url=backends.settings.redis_url,
        redbeat_redis_options={},
        redbeat_redis_use_ssl=False,  # a rediss URL says it itself; what the broker is told is for the broker
        redbeat_key_prefix=backends.keys.beat_prefix,
        redbeat_lock_timeout=LOCK_S,
        beat_max_loop_interval=LOOP_S,
        worker_hijack_root_logger=False,
        result_expires=None,  # or Celery adds a nightly task of its own, for results that we do not keep
        beat_schedule={
            # RedBeat puts its prefix before the name, without a colon.
            ":sweeps-due": {
                "task": TICK_TASK,
                "schedule": EVERY_S,
                "options": {"queue": backends.broker.queues[Lane.INTERACTIVE].name, "expires": EXPIRES_S},
            }
        },
    )
    return app


def serve(backends: Backends) -> None:
    """Tick until SIGTERM; wait for the lock as long as another beat has it."""
    app = configure(backends)
    app.Beat(scheduler="redbeat.RedBeatScheduler", loglevel="WARNING", redirect_stdouts=False, quiet=True).run()
