"""The retry policy: waits are bounded, honour the platform, and always come to an end."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from platforms.model import Platform
from schemas.outcome import Fault, Hold
from workers.retry import (
    BLAME,
    RETRY_AFTER_CAP_S,
    AwaitPlatform,
    Blame,
    Bury,
    Decision,
    RetryIn,
    RetryPolicy,
    Split,
)

NOW = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
FAR = NOW + timedelta(days=30)
POLICY = RetryPolicy(attempts_max=12, delays_s=(5, 60, 600, 3600), retry_after_cap_s=7200)
MOMENT = [fault for fault in Fault if BLAME[fault] is Blame.MOMENT]
CONNECTION = [fault for fault in Fault if BLAME[fault] is Blame.CONNECTION]

SECONDS = st.floats(0.1, 30 * 86400)
POLICIES = st.builds(
    RetryPolicy,
    attempts_max=st.integers(1, 100),
    delays_s=st.lists(SECONDS, min_size=1, max_size=8).map(tuple),
    jitter_ratio=st.floats(0, 1),
    retry_after_cap_s=SECONDS,
)
ASKED = st.none() | st.floats(0, 1e10)


def decide(
    policy: RetryPolicy = POLICY,
    fault: Fault = Fault.SERVER_ERROR,
    *,
    attempt: int = 1,
    jobs: int = 1,
    probe: bool = False,
    retry_after_s: float | None = None,
    deadline: datetime = FAR,
    seed: int = 1,
) -> Decision:
    """Ask the policy, with what a test does not care about filled in."""
    return policy.decide(
        fault,
        attempt=attempt,
        jobs=jobs,
        probe=probe,
        retry_after_s=retry_after_s,
        now=NOW,
        deadline=deadline,
        rng=Random(seed),
    )


def delay_of(decision: Decision) -> float:
    """Return the wait of a decision that must be a retry."""
    assert isinstance(decision, RetryIn)
    return decision.delay_s


def test_every_fault_is_blamed_on_somebody() -> None:
    """A new fault without a place in the table would stop a worker."""
    assert set(Fault) == set(BLAME)


@pytest.mark.parametrize(("attempt", "delay_s"), [(1, 5), (2, 60), (3, 600), (4, 3600), (5, 3600), (11, 3600)])
def test_the_schedule_is_followed_and_its_last_delay_repeats(attempt: int, delay_s: float) -> None:
    """Attempt n is followed by delay n."""
    policy = RetryPolicy(attempts_max=12, delays_s=(5, 60, 600, 3600), jitter_ratio=0)
    assert RetryIn(delay_s=delay_s) == decide(policy, attempt=attempt)


def test_after_the_last_attempt_the_job_is_buried_with_its_fault() -> None:
    """The person sees what went wrong, not that we gave up."""
    assert isinstance(decide(attempt=11), RetryIn)
    assert Bury(reason=Fault.SERVER_ERROR) == decide(attempt=12)


def test_a_rejected_request_is_buried_at_once() -> None:
    """The same request would be rejected again."""
    assert Bury(reason=Fault.REJECTED_REQUEST) == decide(fault=Fault.REJECTED_REQUEST)


@pytest.mark.parametrize("attempt", [1, 12, 99])
def test_a_rejected_batch_is_split_whatever_the_attempt(attempt: int) -> None:
    """One bad item must not bury the other 499; a split spends no attempt."""
    assert Split() == decide(fault=Fault.REJECTED_REQUEST, jobs=2, attempt=attempt)
    assert Split() == decide(fault=Fault.REJECTED_REQUEST, jobs=500, attempt=attempt, probe=True)


@pytest.mark.parametrize("fault", MOMENT)
def test_a_bad_moment_is_retried(fault: Fault) -> None:
    """It may be over soon."""
    assert isinstance(decide(fault=fault, jobs=500), RetryIn)


@pytest.mark.parametrize("fault", MOMENT)
@pytest.mark.parametrize("attempt", [1, 12, 99])
def test_a_platform_known_to_be_ill_costs_no_attempt(fault: Fault, attempt: int) -> None:
    """A probe that fails tells something of the platform, and nothing of the job that was chosen for it."""
    late = NOW - timedelta(days=1)
    assert AwaitPlatform() == decide(fault=fault, attempt=attempt, probe=True, deadline=late)


@pytest.mark.parametrize("fault", CONNECTION)
@pytest.mark.parametrize("probe", [False, True])
def test_a_wrong_connection_never_buries_a_job(fault: Fault, probe: bool) -> None:
    """A revoked key would turn every job of its platform into a dead letter."""
    late = NOW - timedelta(days=1)
    assert AwaitPlatform() == decide(fault=fault, attempt=99, probe=probe, jobs=500, deadline=late)


def test_a_longer_retry_after_replaces_the_delay() -> None:
    """The platform knows best when to come back."""
    assert 300 <= delay_of(decide(retry_after_s=300)) <= 360


def test_a_shorter_retry_after_does_not_shorten_the_delay() -> None:
    """Retry-After is the least, not the most (RFC 9110 10.2.3)."""
    assert delay_of(decide(retry_after_s=None)) == delay_of(decide(retry_after_s=1))


def test_retry_after_is_capped() -> None:
    """A platform that asks for a year is asked again sooner."""
    assert delay_of(decide(retry_after_s=7200)) == delay_of(decide(retry_after_s=365 * 86400))


def test_a_retry_after_beyond_the_deadline_buries_the_job() -> None:
    """A retry that cannot fit is not planned."""
    deadline = NOW + timedelta(minutes=10)
    assert Bury(reason=Hold.DEADLINE) == decide(retry_after_s=601, deadline=deadline)
    assert isinstance(decide(retry_after_s=600, deadline=deadline), RetryIn)


def test_jitter_alone_never_misses_the_deadline() -> None:
    """What fits by the schedule still fits after jitter."""
    policy = RetryPolicy(attempts_max=9, delays_s=(60,), jitter_ratio=1)
    assert RetryIn(delay_s=60) == decide(policy, deadline=NOW + timedelta(seconds=60))


def test_a_deadline_that_is_over_buries_the_job() -> None:
    """Late is late."""
    assert Bury(reason=Hold.DEADLINE) == decide(deadline=NOW - timedelta(seconds=1))


def test_jitter_spreads_jobs_that_failed_together() -> None:
    """They do not all come back in the same moment."""
    assert len({delay_of(decide(seed=seed)) for seed in range(20)}) > 15


def test_the_policy_of_a_platform_is_its_entry_in_the_catalogue() -> None:
    """Numbers come from the entry, and from nowhere else."""
    platform = Platform.model_validate(
        {
            "key": "acme",
            "name": {"zh": "示例", "en": "Acme"},
            "category": "social",
            "account_domain": "acme",
            "protocol": "json",
            "endpoint": "https://unbind.acme.example/v1",
            "auth": {"scheme": "none"},
            "retry": {"attempts_max": 3, "delays_s": [7, 8]},
        }
    )
    expected = RetryPolicy(attempts_max=3, delays_s=(7, 8), jitter_ratio=0.2, retry_after_cap_s=RETRY_AFTER_CAP_S)
    assert expected == RetryPolicy.of(platform)


@given(policy=POLICIES, asked=ASKED, attempt=st.integers(1, 200), left_s=st.floats(-10, 1e8), seed=st.integers())
def test_a_wait_is_bounded_from_both_sides(
    policy: RetryPolicy, asked: float | None, attempt: int, left_s: float, seed: int
) -> None:
    """Never shorter than schedule and capped Retry-After, never past the deadline or the jitter's share."""
    left_s = timedelta(seconds=left_s).total_seconds()
    decision = decide(policy, attempt=attempt, retry_after_s=asked, deadline=NOW + timedelta(seconds=left_s), seed=seed)
    scheduled_s = policy.delays_s[min(attempt, len(policy.delays_s)) - 1]
    least_s = max(scheduled_s, min(asked or 0, policy.retry_after_cap_s))
    if isinstance(decision, RetryIn):
        assert least_s <= decision.delay_s <= min(left_s, least_s * (1 + policy.jitter_ratio) * (1 + 1e-9))
    else:
        assert attempt >= policy.attempts_max or least_s > left_s


@given(policy=POLICIES, less=st.floats(0, 1e8), more=st.floats(0, 1e8), attempt=st.integers(1, 99), seed=st.integers())
def test_who_asks_for_more_time_never_gets_less(
    policy: RetryPolicy, less: float, more: float, attempt: int, seed: int
) -> None:
    """The wait rises with Retry-After."""
    assume(less <= more and attempt < policy.attempts_max)
    far = NOW + timedelta(days=365)
    short = delay_of(decide(policy, attempt=attempt, retry_after_s=less, deadline=far, seed=seed))
    long = delay_of(decide(policy, attempt=attempt, retry_after_s=more, deadline=far, seed=seed))
    assert short <= long


@given(
    policy=POLICIES,
    faults=st.lists(st.sampled_from([*MOMENT, Fault.REJECTED_REQUEST]), min_size=100, max_size=100),
    asked=st.lists(ASKED, min_size=100, max_size=100),
    total_s=st.floats(0, 90 * 86400),
    seed=st.integers(),
)
def test_every_job_comes_to_an_end(
    policy: RetryPolicy, faults: list[Fault], asked: list[float | None], total_s: float, seed: int
) -> None:
    """Whatever a platform does: no more attempts than allowed, and none after the deadline."""
    rng, now, deadline = Random(seed), NOW, NOW + timedelta(seconds=total_s)
    for attempt, (fault, retry_after_s) in enumerate(zip(faults, asked, strict=True), start=1):
        assert attempt <= policy.attempts_max
        decision = policy.decide(
            fault,
            attempt=attempt,
            jobs=1,
            probe=False,
            retry_after_s=retry_after_s,
            now=now,
            deadline=deadline,
            rng=rng,
        )
        if isinstance(decision, Bury):
            return
        assert isinstance(decision, RetryIn)
        now += timedelta(seconds=decision.delay_s)
        assert now <= deadline
    pytest.fail("still alive after 100 attempts")
