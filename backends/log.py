"""Logs: JSON lines. One processor masks whatever looks like a number, whoever logged it (rule 8)."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final, TextIO

import structlog

from schemas.number import mask_text

# Every event that we log, and when. The list is closed: a test holds the source to it, so that what searches the logs
# can count on their names.
EVENTS: Final = {
    "transport.chosen": "a worker begins; `client` is what calls the platforms",
    "attempt.ended": "an attempt is over; `end` says how: called, not_now, copy, nothing_left",
    "attempt.postponed": "our own Redis or broker is away; the batch comes again",
    "attempt.crashed": "a fault of this program; the batch is buried",
    "batch.buried": "the jobs of a batch that no worker can finish became dead letters",
    "batch.redriven": "a batch showed no progress and was sent again",
    "message.poison": "a message that can never be read is kept as it came",
    "answer.invented": "an answer names items that were never sent",
    "gate.changed": "a platform was suspended, left in peace, probed or resumed",
    "callback.refused": "a callback, or items of one, changed nothing; `reason` says why",
    "poll.ended": "a platform was asked for answers that come later; `end` says how: called, not_now",
    "poll.failed": "answers could not be asked for; they are asked for again",
    "deadline.passed": "jobs ended since nobody answered in time",
    "job.disputed": "a final answer contradicts the recorded one",
    "job.orphaned": "a result for a case that is not known here",
    "action.taken": "a person changed something",
    "replay.stopped": "a mass replay has stopped by itself",
    "sweep.night": "a night of a sweep begins, ends or cannot go on; `what` says which",
    "sweep.row_refused": "a row of an inventory is wrong; only the first of a night are logged",
    "withdrawal.failed": "a platform could not be told that a number was taken back",
    "notice.failed": "a subscriber did not take what it was told; it is told again",
    "notice.put_aside": "a subscriber refused one notice again and again; it is kept, and the next one is told",
    "upload.waiting": "a file that came over HTTP is not read on for now",
    "recorder.reconnecting": "the recorder has lost Redis or its broker",
    "scheduler.waiting": "the scheduler has lost Redis or its broker",
    "message.unreadable": "an entry of the broker's records that is no message is kept as it is",
    "broker.restored": "messages of a consumer that is gone are back on their queue",
    "broker.late_ack": "a batch ended after the connection that it came over; it comes again and is dropped as a copy",
    "broker.not_restored": "a consumer that closes could not give its messages back; they come back later",
    "request.ended": "the HTTP API or the console has answered; `route` is a pattern, never what was asked for",
    "request.crashed": "a fault of this program; it was answered with 500",
    "run.cancel_waits": "not every job of a cancelled run could be taken out yet; it goes on with the next console",
    "process.ended": "a process ended by itself and is started again",
    "process.killed": "a process did not end when asked to",
}


def configure_logging(stream: TextIO | None = None, *, level: int = logging.INFO) -> None:
    """Send our logs from `level`, and every library's warnings, to `stream` (stderr) as JSON lines, numbers masked."""
    stream = stream or sys.stderr
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _mask,
        structlog.processors.JSONRenderer(ensure_ascii=False),
    ]
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *shared[2:]],
            foreign_pre_chain=shared[:2],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _mask(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if isinstance(value, str) and name != "timestamp":
            event[name] = mask_text(value)
    return event
