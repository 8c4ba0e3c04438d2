"""Every key in Redis: its type, what it holds, how long it lives. Nothing else in the house spells a key.

No key holds a number: look-ups go by keyed tokens (rule 8).
"""

from dataclasses import dataclass
from typing import Final

SEEN_TTL_S: Final = 3 * 86400
# A platform's limiter needs no memory beyond its slowest call; an idle one leaves nothing behind.
ADMISSION_TTL_S: Final = 600
# A day's count ends with the day; its key somewhat later.
QUOTA_TTL_S: Final = 2 * 86400
# Long enough for an enquiry about a job that needed more than one attempt.
TRAIL_TTL_S: Final = 30 * 86400
# One step of a replay takes well under a second; a scheduler that died in one is replaced after this.
REPLAY_LOCK_TTL_S: Final = 15
# Longer than any freeze: a number that was taken back must not be asked about in the cycle in which that happened.
RECLAIMED_TTL_S: Final = 400 * 86400
# What was foreseen of a night is of use as long as somebody compares nights.
FORECAST_TTL_S: Final = 90 * 86400
# A signature is good for five minutes before and after: for longer than both no callback may take effect twice.
CALLBACK_TTL_S: Final = 3600
# A shift and a handover; then a key is shown again.
SESSION_TTL_S: Final = 12 * 3600
# Longer than any promise to an owner; who asks later is given a new link.
OWNER_LINK_TTL_S: Final = 30 * 86400
# Whoever does not know whether a request arrived asks again within a day.
IDEMPOTENCY_TTL_S: Final = 86_400
# Longer than any burst takes to be free again.
PACE_TTL_S: Final = 3600

# Longer than one call to a subscriber may take; who died while telling it is replaced after this.
SUBSCRIBER_LEASE_TTL_S: Final = 30

# Keys that stay until somebody removes what they stand for. A test fails on any other key without a TTL.
PERMANENT: Final = frozenset(
    {
        "case", "jobs", "details", "token", "reference", "wanted", "settled", "manifest",
        "run", "run-cases", "runs", "platform", "dead", "dead-groups", "dead-at", "disputes", "orphans", "poison",
        "late", "accepted", "paused", "polls", "callbacks-refused",
        "waiting", "waiting-first", "waiting-batches", "waiting-leases", "waiting-at", "waiting-first-at",
        "fence", "heartbeats", "gate",
        "custody", "custody-batches", "custody-notes", "custody-lanes", "redriven",
        "replays", "replays-open", "replay", "replay-jobs", "replay-sent", "actions",
        "sweep", "sweep-nights", "sweep-tick", "withdrawals", "withdrawals-due", "reclaimed-cases",
        "api-keys", "totals", "outbox", "announced", "subscriber", "undelivered",
        "authorisation", "authorisations-ending", "authorisations-withdrawn", "instruments",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one namespace."""

    namespace: str = "renewal"

    @property
    def case_prefix(self) -> str:
        """What scripts put before a case id."""
        return f"{self.namespace}:case:"

    def case(self, case: str) -> str:
        """Hash: the case itself: sealed number, mask, cut-off, run, line, place in its manifest …; permanent."""
        return f"{self.case_prefix}{case}"

    @property
    def jobs_prefix(self) -> str:
        """What scripts put before the id of a manifest."""
        return f"{self.namespace}:jobs:"

    def jobs(self, manifest: str) -> str:
        """Hash: platform → column of a manifest (`schemas.record`), `#` → rolls, `$` → ids, `@` → run; permanent."""
        return f"{self.jobs_prefix}{manifest}"

    @property
    def details_prefix(self) -> str:
        """What `record.lua` puts before a case id."""
        return f"{self.namespace}:details:"

    def details(self, case: str) -> str:
        """Hash: platform → JSON, only for jobs that are not plain; permanent."""
        return f"{self.details_prefix}{case}"

    def token(self, token: str) -> str:
        """Set: case ids of one number, by its keyed token; permanent."""
        return f"{self.namespace}:token:{token}"

    def reference(self, token: str) -> str:
        """Set: case ids of one operator's reference, by its keyed token; permanent."""
        return f"{self.namespace}:reference:{token}"

    def wanted(self, digest: str) -> str:
        """String: JSON list of the platforms that a case is renewed at; permanent."""
        return f"{self.namespace}:wanted:{digest}"

    def settled(self, digest: str) -> str:
        """Hash: platform that is not asked → the one whose answer settles it too; permanent."""
        return f"{self.namespace}:settled:{digest}"

    def manifest(self, manifest: str) -> str:
        """String: JSON of cases that travel together, their numbers sealed; permanent."""
        return f"{self.namespace}:manifest:{manifest}"

    @property
    def runs(self) -> str:
        """Sorted set: run ids by start, seconds; permanent."""
        return f"{self.namespace}:runs"

    @property
    def run_prefix(self) -> str:
        """What `record.lua` puts before a run id."""
        return f"{self.namespace}:run:"

    def run(self, run: str) -> str:
        """Hash: what a run is, and its counters; permanent."""
        return f"{self.run_prefix}{run}"

    def run_cases(self, run: str) -> str:
        """Sorted set: case ids by line of the file; permanent."""
        return f"{self.namespace}:run-cases:{run}"

    def platform(self, platform: str) -> str:
        """Hash: counters of one platform; permanent."""
        return f"{self.namespace}:platform:{platform}"

    @property
    def totals(self) -> str:
        """Hash: counters of the whole store: cases, jobs, and both by state and verdict; permanent."""
        return f"{self.namespace}:totals"

    def seen(self, event: str) -> str:
        """String: this result event has been applied; TTL SEEN_TTL_S."""
        return f"{self.namespace}:seen:{event}"

    @property
    def dead(self) -> str:
        """Sorted set: job ids of dead letters by time, milliseconds; permanent."""
        return f"{self.namespace}:dead"

    @property
    def dead_groups(self) -> str:
        """Hash: platform and reason code, as `<platform>:<code>` → how many dead letters; permanent."""
        return f"{self.namespace}:dead-groups"

    @property
    def dead_at_prefix(self) -> str:
        """What `record.lua` puts before `<platform>:<code>`."""
        return f"{self.namespace}:dead-at:"

    def dead_at(self, platform: str, code: int) -> str:
        """Sorted set: job ids of one platform's dead letters of one reason by time, milliseconds; permanent."""
        return f"{self.dead_at_prefix}{platform}:{code}"

    @property
    def trail_prefix(self) -> str:
        """What `record.lua` puts before a job id."""
        return f"{self.namespace}:trail:"

    def trail(self, job: str) -> str:
        """List: JSON of each attempt of a job that is or was not plain, oldest first; TTL TRAIL_TTL_S."""
        return f"{self.trail_prefix}{job}"

    @property
    def disputes(self) -> str:
        """List: JSON of every final answer that contradicts the recorded one; permanent."""
        return f"{self.namespace}:disputes"

    def accepted(self, platform: str) -> str:
        """Sorted set: jobs whose answer one platform still owes, by when they were first sent, ms; permanent."""
        return f"{self.namespace}:accepted:{platform}"

    def paused(self, platform: str) -> str:
        """Sorted set: the others, whose owner has to act or had to: their clock stood still; same times; permanent."""
        return f"{self.namespace}:paused:{platform}"

    @property
    def late(self) -> str:
        """List: JSON of every answer that came after its job had ended for want of one; permanent."""
        return f"{self.namespace}:late"

    def polls(self, platform: str) -> str:
        """Sorted set: the same jobs, by when to ask for the answer, ms, 0 until somebody has looked; permanent."""
        return f"{self.namespace}:polls:{platform}"

    def callback(self, platform: str, message: str) -> str:
        """Hash: a callback that was taken: digest of its body, and what was answered; TTL CALLBACK_TTL_S."""
        return f"{self.namespace}:callback:{platform}:{message}"

    @property
    def callbacks_refused(self) -> str:
        """Stream: callbacks, or items of them, that were refused, and why; trimmed; permanent."""
        return f"{self.namespace}:callbacks-refused"

    @property
    def orphans(self) -> str:
        """List: JSON of results for cases that are not known here; permanent."""
        return f"{self.namespace}:orphans"

    @property
    def poison(self) -> str:
        """List: JSON of messages that could not be read, whole, with the reason; permanent."""
        return f"{self.namespace}:poison"

    @property
    def waiting(self) -> str:
        """Sorted set: batch ids by the time they are due, milliseconds; permanent."""
        return f"{self.namespace}:waiting"

    @property
    def waiting_first(self) -> str:
        """Sorted set: those of `waiting` that are interactive, by the same times; permanent."""
        return f"{self.namespace}:waiting-first"

    @property
    def waiting_batches(self) -> str:
        """Hash: batch id → JSON with the batch and why it waits; permanent."""
        return f"{self.namespace}:waiting-batches"

    @property
    def waiting_leases(self) -> str:
        """Hash: batch id → number of the newest lease; permanent."""
        return f"{self.namespace}:waiting-leases"

    def waiting_at(self, platform: str) -> str:
        """Sorted set: batch ids that wait for one platform, by due time; permanent."""
        return f"{self.namespace}:waiting-at:{platform}"

    def waiting_first_at(self, platform: str) -> str:
        """Sorted set: those that wait for one platform and are interactive, by due time; permanent."""
        return f"{self.namespace}:waiting-first-at:{platform}"

    @property
    def fence(self) -> str:
        """String: counter from which each lease of the waiting set takes its number; permanent."""
        return f"{self.namespace}:fence"

    @property
    def custody(self) -> str:
        """Sorted set: batches that a queue or a worker holds, by when to look after them, milliseconds; permanent."""
        return f"{self.namespace}:custody"

    @property
    def custody_batches(self) -> str:
        """Hash: batch id → JSON of the batch in custody; permanent."""
        return f"{self.namespace}:custody-batches"

    @property
    def custody_notes(self) -> str:
        """Hash: batch id → phase, since, starts, redrives and holder, see `backends.custody`; permanent."""
        return f"{self.namespace}:custody-notes"

    @property
    def custody_lanes(self) -> str:
        """Hash: lane → when the newest batch that has been begun was queued, milliseconds; permanent."""
        return f"{self.namespace}:custody-lanes"

    @property
    def redriven(self) -> str:
        """String: how many batches have been sent again because they made no progress; permanent."""
        return f"{self.namespace}:redriven"

    @property
    def replays(self) -> str:
        """Sorted set: replays of dead letters by the time they were asked for, milliseconds; permanent."""
        return f"{self.namespace}:replays"

    @property
    def replays_open(self) -> str:
        """Set: replays that still have something to send or to watch; permanent."""
        return f"{self.namespace}:replays-open"

    def replay(self, replay: str) -> str:
        """Hash: what a replay is, and how far it is at each platform, see `backends.replays`; permanent."""
        return f"{self.namespace}:replay:{replay}"

    def replay_jobs(self, replay: str) -> str:
        """List: the job ids that a replay was asked for, platform by platform; permanent."""
        return f"{self.namespace}:replay-jobs:{replay}"

    def replay_sent(self, replay: str) -> str:
        """Hash: platform → JSON of the jobs that were sent and whose end has not been seen; permanent."""
        return f"{self.namespace}:replay-sent:{replay}"

    def replay_lock(self, replay: str) -> str:
        """String: who steps a replay now; TTL REPLAY_LOCK_TTL_S."""
        return f"{self.namespace}:replay-lock:{replay}"

    def sweep(self, name: str) -> str:
        """Hash: where a sweep stands: lease and fence, open night, last settled one, pause; permanent."""
        return f"{self.namespace}:sweep:{name}"

    def sweep_nights(self, name: str) -> str:
        """Hash: day → JSON of what became of that night, see `backends.sweeps`; permanent."""
        return f"{self.namespace}:sweep-nights:{name}"

    def sweep_forecast(self, name: str, day: str) -> str:
        """String: JSON of what was foreseen when a night began; TTL FORECAST_TTL_S."""
        return f"{self.namespace}:sweep-forecast:{name}:{day}"

    @property
    def sweep_tick(self) -> str:
        """String: when beat last asked for a look at the sweeps, milliseconds; permanent."""
        return f"{self.namespace}:sweep-tick"

    @property
    def beat_prefix(self) -> str:
        """What RedBeat puts before its schedule (sorted set), its lock (string) and each entry (hash)."""
        return f"{self.namespace}:beat"

    def reclaimed(self, token: str) -> str:
        """String: when the holder of a number took it back, milliseconds; TTL RECLAIMED_TTL_S."""
        return f"{self.namespace}:reclaimed:{token}"

    @property
    def reclaimed_cases(self) -> str:
        """Sorted set: cases whose number was taken back, by until when to look for late answers, ms; permanent."""
        return f"{self.namespace}:reclaimed-cases"

    @property
    def withdrawals(self) -> str:
        """Hash: job → JSON of how far its withdrawal is, see `backends.withdrawals`; permanent."""
        return f"{self.namespace}:withdrawals"

    @property
    def withdrawals_due(self) -> str:
        """Sorted set: jobs whose withdrawal is to be sent, by when, milliseconds; permanent."""
        return f"{self.namespace}:withdrawals-due"

    def rate(self, platform: str) -> str:
        """String: when the next call may come (GCRA), microseconds; TTL ADMISSION_TTL_S."""
        return f"{self.namespace}:rate:{platform}"

    def slots(self, platform: str) -> str:
        """Sorted set: leased in-flight slots by the end of their lease, milliseconds; TTL ADMISSION_TTL_S."""
        return f"{self.namespace}:slots:{platform}"

    def quota(self, platform: str) -> str:
        """Hash: the newest day on which jobs were counted (Asia/Shanghai), and how many were; TTL QUOTA_TTL_S."""
        return f"{self.namespace}:quota:{platform}"

    def gate(self, platform: str) -> str:
        """Hash: state of one platform's gate, see `lua/gate.lua`; permanent."""
        return f"{self.namespace}:gate:{platform}"

    @property
    def actions(self) -> str:
        """Stream: what people changed, see `backends.actions`; never trimmed; permanent."""
        return f"{self.namespace}:actions"

    @property
    def api_keys(self) -> str:
        """Hash: key id → JSON of a key of the API and the console, its secret as a digest; permanent."""
        return f"{self.namespace}:api-keys"

    def session(self, digest: str) -> str:
        """String: JSON of a session of the console, by the digest of its cookie; TTL SESSION_TTL_S."""
        return f"{self.namespace}:session:{digest}"

    def authorisation(self, case: str) -> str:
        """Hash: what the owner allowed in one case, who recorded it, and its withdrawal; permanent."""
        return f"{self.namespace}:authorisation:{case}"

    @property
    def authorisations_ending(self) -> str:
        """Sorted set: cases whose authorisation will run out, by when, milliseconds; permanent."""
        return f"{self.namespace}:authorisations-ending"

    @property
    def authorisations_withdrawn(self) -> str:
        """Sorted set: cases whose authorisation was withdrawn, by until when to look at them, ms; permanent."""
        return f"{self.namespace}:authorisations-withdrawn"

    @property
    def instruments(self) -> str:
        """Hash: key → JSON of a legal instrument on which bulk runs rest; permanent."""
        return f"{self.namespace}:instruments"

    def owner_link(self, digest: str) -> str:
        """String: the case that an owner's link leads to, by the digest of its token; TTL OWNER_LINK_TTL_S."""
        return f"{self.namespace}:owner-link:{digest}"

    def owner_links(self, case: str) -> str:
        """Set: the digests of the links that lead to one case; TTL OWNER_LINK_TTL_S."""
        return f"{self.namespace}:owner-links:{case}"

    def idempotency(self, token: str) -> str:
        """String: sealed JSON of a request that is or was answered, by caller and key; TTL IDEMPOTENCY_TTL_S."""
        return f"{self.namespace}:idempotency:{token}"

    def pace(self, name: str, who: str) -> str:
        """String: when a caller's whole burst is free again (GCRA), microseconds; TTL PACE_TTL_S."""
        return f"{self.namespace}:pace:{name}:{who}"

    @property
    def heartbeats(self) -> str:
        """Hash: role and process → JSON of when it last lived and what it does now; permanent."""
        return f"{self.namespace}:heartbeats"

    def queue(self, lane: str) -> str:
        """Broker queue of one lane (on Redis a list, drained by workers)."""
        return f"{self.namespace}.{lane}"

    @property
    def results_queue(self) -> str:
        """Broker queue of result events (on Redis a list, drained by recorders)."""
        return f"{self.namespace}.results"

    def unacked(self, group: str) -> str:
        """Hash of the broker: delivery tag → message that a consumer of the group, `jobs` or `results`, holds."""
        return f"{self.namespace}:unacked:{group}"

    def unacked_index(self, group: str) -> str:
        """Sorted set of the broker: delivery tags by when the message was taken, seconds."""
        return f"{self.namespace}:unacked-index:{group}"

    @property
    def outbox(self) -> str:
        """Stream: what the operator's systems are to be told; trimmed once all of them have got it; permanent."""
        return f"{self.namespace}:outbox"

    @property
    def announced(self) -> str:
        """Hash: gate, sweep or platform → the last state of it that was told; permanent."""
        return f"{self.namespace}:announced"

    def subscriber(self, name: str) -> str:
        """Hash: how far one subscriber has been told, see `backends.subscribers`; permanent."""
        return f"{self.namespace}:subscriber:{name}"

    def subscriber_lease(self, name: str) -> str:
        """String: who tells a subscriber now; TTL SUBSCRIBER_LEASE_TTL_S."""
        return f"{self.namespace}:subscriber-lease:{name}"

    @property
    def undelivered(self) -> str:
        """List: JSON of every notice that a subscriber did not take in three days, whole; permanent."""
        return f"{self.namespace}:undelivered"

    @property
    def unreadable(self) -> str:
        """List of the broker: what was found in a queue and is no message, whole."""
        return f"{self.namespace}:unreadable"

    @property
    def rest(self) -> str:
        """List of the broker that nobody fills: an idle consumer blocks on it for a moment."""
        return f"{self.namespace}:rest"
