"""The forecast of a night, by hand and by rule."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platforms.maintenance import Maintenance, next_window
from platforms.model import Limits, Name, NoAuth, Platform
from producers.forecast import Forecast, House, Limit, PlatformForecast, Standing
from producers.foresight import foresee, rate_jobs_per_s

SHANGHAI = ZoneInfo("Asia/Shanghai")
TEN = datetime(2026, 11, 3, 22, tzinfo=SHANGHAI)
SIX = datetime(2026, 11, 4, 6, tzinfo=SHANGHAI)
FIRST, SECOND, THIRD = date(2026, 11, 5), date(2026, 11, 6), date(2026, 11, 7)
WIDE = House(bulk_jobs_per_s=1e9, single_jobs_per_s=1e9)


def platform(key: str = "acme", **fields: Any) -> Platform:
    """One bulk platform of 100 jobs a second, unless the fields say otherwise."""
    limits = {"calls_per_s": 1, "in_flight": 10, "items_per_call": 100, **fields.pop("limits", {})}
    usual: dict[str, Any] = {
        "protocol": "bulk-json",
        "name": Name(zh="示例", en="Example"),
        "category": "social",
        "account_domain": "acme",
        "endpoint": "https://acme.example/v1",
        "auth": NoAuth(scheme="none"),
    }
    return Platform(key=key, limits=Limits(**limits), **(usual | fields))


def single(key: str, **limits: float) -> Platform:
    """One platform that is asked job by job."""
    entry = platform(key).model_dump() | {"protocol": "json", "limits": limits}
    return Platform.model_validate(entry)


def hours(start: str, end: str) -> Maintenance:
    """Every day from start to end."""
    return Maintenance(start=time.fromisoformat(start), end=time.fromisoformat(end))


def one(entry: Platform, count: int = 0, *, standing: Standing | None = None, **more: Any) -> PlatformForecast:
    """Foresee the night from ten to six of one platform alone."""
    jobs = more.pop("jobs", {FIRST: count})
    words: dict[str, Any] = {"start": TEN, "until": SIX, "house": WIDE, **more}
    found = foresee([entry], {entry.key: jobs}, standings={entry.key: standing or Standing()}, **words)
    return found.platforms[0]


def after(**span: float) -> datetime:
    """An instant after ten o'clock."""
    return TEN + timedelta(**span)


# -- by hand -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "call_s", "jobs_per_s"),
    [
        (platform(), None, 100.0),  # 1 call a second with 100 items each
        (platform(limits={"calls_per_s": 50, "in_flight": 4}), 0.5, 800.0),  # 4 in flight, two in a second each
        (platform(limits={"calls_per_s": 50, "in_flight": 4, "timeout_s": 0.25}), 3.0, 1600.0),  # none lasts longer
        (platform(limits={"calls_per_s": 50, "in_flight": 4}), None, 400.0),  # not measured: a second
        (single("one", calls_per_s=20, in_flight=4), 0.1, 20.0),  # one item a call, whatever the default says
        (single("one", calls_per_s=20, in_flight=1), 0.1, 10.0),
    ],
)
def test_a_platform_s_rate_is_the_smaller_of_calls_a_second_and_calls_in_flight(
    entry: Platform, call_s: float | None, jobs_per_s: float
) -> None:
    """A generous rate is worth nothing where few calls may be open at once."""
    assert jobs_per_s == pytest.approx(rate_jobs_per_s(entry, call_s=call_s))


def test_without_obstacles_the_rate_tells_the_end() -> None:
    """360,000 jobs at 100 a second: one hour."""
    found = one(platform(), 360_000)
    assert (360_000, 360_000, 0, after(hours=1), None) == (
        found.jobs, found.sent, found.spilled, found.done_at, found.why,
    )  # fmt: skip


def test_what_is_too_much_for_the_night_spills_because_of_the_rate() -> None:
    """Eight hours of 360,000 jobs; ten hours were needed."""
    found = one(platform(), 3_600_000)
    assert (2_880_000, {Limit.RATE: 720_000}, after(hours=10)) == (found.sent, found.spilled_by, found.done_at)


def test_a_quota_is_renewed_at_midnight_in_shanghai() -> None:
    """2,500 jobs, 1,000 a day of which 400 are used: 600 at once, 1,000 at midnight, 900 a day later."""
    found = one(platform(limits={"jobs_per_day": 1000}), 2500, standing=Standing(used_today=400))
    assert (1600, {Limit.QUOTA: 900}) == (found.sent, found.spilled_by)
    assert datetime(2026, 11, 5, 0, 0, 9, tzinfo=SHANGHAI) == found.done_at


def test_a_quota_that_is_overdrawn_gives_nothing_until_midnight() -> None:
    """More may have been sent than a quota that was lowered in the afternoon."""
    found = one(platform(limits={"jobs_per_day": 1000}), 500, standing=Standing(used_today=1200))
    assert datetime(2026, 11, 4, 0, 0, 5, tzinfo=SHANGHAI) == found.done_at


def test_outside_its_hours_a_platform_gets_nothing() -> None:
    """Open from 23 to 1 o'clock, three hours of work: the third hour is the next night's."""
    found = one(platform(bulk_hours=(hours("23:00", "01:00"),)), 3 * 360_000)
    assert (2 * 360_000, {Limit.HOURS: 360_000}) == (found.sent, found.spilled_by)
    assert datetime(2026, 11, 5, 0, tzinfo=SHANGHAI) == found.done_at


def test_a_maintenance_window_moves_the_end() -> None:
    """Two hours of work, of which a maintenance from 23 to 1 o'clock splits one off."""
    found = one(platform(maintenance=(hours("23:00", "01:00"),)), 2 * 360_000)
    assert (0, after(hours=4)) == (found.spilled, found.done_at)


def test_what_spilled_is_shared_out_among_what_held_it_back() -> None:
    """Nine hours of work in a night of eight: an hour of maintenance costs one, the rate itself the other."""
    found = one(platform(maintenance=(hours("23:00", "00:00"),)), 9 * 360_000)
    assert {Limit.MAINTENANCE: 360_000, Limit.RATE: 360_000} == found.spilled_by


def test_the_earliest_release_goes_first() -> None:
    """Three dates of 1,000 jobs each, given in disorder: ten seconds each, in order of release."""
    found = one(platform(), jobs={THIRD: 1000, FIRST: 1000, SECOND: 1000})
    assert [
        (FIRST, 1000, 1000, after(seconds=10)),
        (SECOND, 1000, 1000, after(seconds=20)),
        (THIRD, 1000, 1000, after(seconds=30)),
    ] == [(each.release, each.jobs, each.sent, each.done_at) for each in found.releases]


def test_the_last_release_spills_first() -> None:
    """Of three times 1,000 jobs and a quota of 1,500 in this night, the half of the second and the third are left."""
    entry = platform(limits={"jobs_per_day": 1500})
    found = one(entry, jobs={FIRST: 1000, SECOND: 1000, THIRD: 1000}, until=TEN + timedelta(hours=1))
    assert [1000, 500, 0] == [each.sent for each in found.releases]


def test_what_was_queued_before_goes_first_and_is_not_counted() -> None:
    """600 jobs of yesterday: six seconds, and six hundred of the quota."""
    found = one(platform(limits={"jobs_per_day": 1000}), 1000, standing=Standing(queued=600), until=TEN)
    assert (1000, 0, datetime(2026, 11, 4, 0, 0, 6, tzinfo=SHANGHAI)) == (found.jobs, found.sent, found.done_at)


def test_a_busy_house_shares_itself_out_and_gives_on_what_a_slow_platform_leaves() -> None:
    """100 jobs a second in all; the slow platform takes 10, so each of the two fast ones gets 45, then what is left."""
    slow, fast = platform("slow", limits={"items_per_call": 10}), [platform(key) for key in ("fast1", "fast2")]
    found = foresee(
        [*fast, slow], {"slow": {FIRST: 1000}, "fast1": {FIRST: 900}, "fast2": {FIRST: 1800}},
        start=TEN, until=TEN + timedelta(seconds=25), house=House(bulk_jobs_per_s=100),
    )  # fmt: skip
    ends = {each.platform: each.done_at for each in found.platforms}
    # fast1: 900 at 45. fast2: 20 s at 45, then 900 at 90. slow: at its own 10 throughout.
    assert {"slow": after(seconds=100), "fast1": after(seconds=20), "fast2": after(seconds=30)} == ends
    blamed = {each.platform: each.spilled_by for each in found.platforms}
    assert {"slow": {Limit.RATE: 750}, "fast1": {}, "fast2": {Limit.HOUSE: 450}} == blamed


def test_single_calls_cost_the_house_more() -> None:
    """A house that does 1,000 bulk jobs or 100 single ones: a pair of both takes the time of each."""
    found = foresee(
        [platform("many", limits={"calls_per_s": 1000}), single("one", calls_per_s=1000, in_flight=1000)],
        {"many": {FIRST: 1000}, "one": {FIRST: 1000}},
        start=TEN, until=SIX, house=House(bulk_jobs_per_s=1000, single_jobs_per_s=100),
    )  # fmt: skip
    # Together 1/1000 + 1/100 seconds a pair: 1,000 pairs take 11 s.
    assert [after(seconds=11)] * 2 == [each.done_at for each in found.platforms]


def test_a_platform_that_another_settles_is_not_asked() -> None:
    """One account system is asked once: the second name costs no quota, no rate and no pace of the house."""
    leader, follower = platform("leader"), platform("also", settled_by="leader")
    jobs = {key: {FIRST: 1000, SECOND: 1000} for key in ("leader", "also")}
    until = TEN + timedelta(seconds=15)
    found = foresee([follower, leader], jobs, start=TEN, until=until, house=House(bulk_jobs_per_s=100))
    also, led = found.platforms
    assert ("also", "leader", None) == (also.platform, also.settled_by, led.settled_by)
    assert [after(seconds=10), after(seconds=20)] == [each.done_at for each in also.releases]
    assert (1500, {Limit.RATE: 500}) == (also.sent, also.spilled_by)
    assert also.releases == led.releases


def test_a_follower_without_its_leader_is_asked_itself() -> None:
    """Cases that name only the second of two platforms must not wait for an answer that never comes."""
    found = one(platform("also", settled_by="leader"), 1000)
    assert (None, after(seconds=10)) == (found.settled_by, found.done_at)


def test_a_release_is_at_risk_when_its_day_begins_first() -> None:
    """A number is sold from the first minute of its date: what is done at midnight is just in time."""
    fourth, slow = date(2026, 11, 4), platform("slow", limits={"jobs_per_day": 100})
    words: dict[str, Any] = {"start": TEN, "until": SIX, "house": WIDE}
    just = {"slow": {fourth: 100, FIRST: 100, SECOND: 100}, "well": {fourth: 720_000}}
    assert () == foresee([slow, platform("well")], just, **words).at_risk
    late = {"slow": {FIRST: 201}, "well": {fourth: 720_100}}
    found = foresee([slow, platform("well")], late, **words)
    assert [
        {"release": "2026-11-04", "jobs_late": 720_100, "done_at": "2026-11-03T16:00:01Z", "platforms": "well"},
        {"release": "2026-11-05", "jobs_late": 201, "done_at": "2026-11-04T16:00:01Z", "platforms": "slow"},
    ] == list(found.risk_rows())


def test_what_takes_a_month_has_no_end_foreseen() -> None:
    """A quota of one a day is a mistake somewhere, and no reason to compute for ever."""
    found = one(platform(limits={"jobs_per_day": 1}), 1000)
    assert (None, 998, Limit.QUOTA) == (found.done_at, found.spilled, found.why)


@pytest.mark.parametrize(
    ("start", "until"),
    [(SIX, TEN), (TEN.replace(tzinfo=None), SIX), (TEN, SIX.replace(tzinfo=None))],
)
def test_a_night_that_is_none_is_refused(start: datetime, until: datetime) -> None:
    """A time without an offset is eight hours off somewhere."""
    with pytest.raises(ValueError, match="instants with an offset"):
        foresee([platform()], {"acme": {FIRST: 1}}, start=start, until=until)


SLACK = timedelta(seconds=1)  # ends are said in whole seconds
# -- as rules ------------------------------------------------------------------------------------------------------

TIMES = st.sampled_from(["00:00", "01:00", "03:30", "06:00", "12:00", "21:59", "22:00", "23:15"])
WINDOWS = st.lists(
    st.tuples(TIMES, TIMES).filter(lambda pair: pair[0] != pair[1]).map(lambda pair: hours(*pair)), max_size=2
).map(tuple)
LIMITS = st.fixed_dictionaries(
    {
        "calls_per_s": st.sampled_from([0.5, 1, 7, 50]),
        "in_flight": st.integers(1, 5),
        "items_per_call": st.sampled_from([1, 10, 500]),
        "jobs_per_day": st.none() | st.integers(1, 300_000),
    }
)
STARTS = st.integers(0, 48 * 60).map(lambda minutes: TEN + timedelta(minutes=minutes))
COUNTS = st.dictionaries(st.sampled_from([FIRST, SECOND, THIRD]), st.integers(0, 200_000), min_size=1)
STANDINGS = st.builds(
    Standing,
    used_today=st.integers(0, 1000),
    queued=st.integers(0, 5000),
    call_s=st.none() | st.floats(0.01, 20),
)
HOUSES = st.sampled_from([House(), WIDE, House(bulk_jobs_per_s=50, single_jobs_per_s=20)])


@st.composite
def nights(draw: st.DrawFn) -> dict[str, Any]:
    """Up to four platforms with all that can hold them back."""
    count = draw(st.integers(1, 4))
    entries = []
    for index in range(count):
        fields: dict[str, Any] = {
            "limits": draw(LIMITS), "maintenance": draw(WINDOWS), "bulk_hours": draw(WINDOWS),
        }  # fmt: skip
        if index and draw(st.booleans()):
            fields["settled_by"] = "p0"
        entries.append(platform(f"p{index}", **fields))
    start, led = draw(STARTS), draw(COUNTS)
    return {
        "platforms": entries,
        # The same numbers go to a platform and to the one whose answers settle it.
        "jobs": {entry.key: led if entry.settled_by or entry.key == "p0" else draw(COUNTS) for entry in entries},
        "start": start,
        "until": start + timedelta(hours=draw(st.integers(0, 30))),
        "house": draw(HOUSES),
        "standings": {entry.key: draw(STANDINGS) for entry in entries},
    }


def open_hours(entry: Platform, start: datetime, until: datetime) -> tuple[float, int]:
    """Return for how many hours a platform may be called, looked at minute by minute, and on how many days."""
    minutes, at, days = 0, start, {start.astimezone(SHANGHAI).date()}
    while at < until:
        days.add(at.astimezone(SHANGHAI).date())
        closed = next_window(entry.maintenance, at)
        opened = next_window(entry.bulk_hours, at)
        minutes += not (closed and closed[0] <= at) and (opened is None or opened[0] <= at)
        at += timedelta(minutes=1)
    return minutes / 60, len(days)


@given(night=nights())
def test_no_job_is_lost_and_none_is_sent_over_rate_quota_hours_or_pace(night: dict[str, Any]) -> None:
    """A forecast that promises more than a contract allows is worse than none."""
    found = foresee(night["platforms"], night["jobs"], **words(night))
    entries = {entry.key: entry for entry in night["platforms"]}
    for each in found.platforms:
        assert sum(night["jobs"][each.platform].values()) == each.jobs == each.sent + each.spilled
        assert each.spilled == sum(each.spilled_by.values())
        assert 0 <= each.sent <= each.jobs
        assert (each.jobs, each.sent) == tuple(
            sum(values) for values in zip(*((r.jobs, r.sent) for r in each.releases), strict=True)
        )
        if each.settled_by is None:
            entry, standing = entries[each.platform], night["standings"][each.platform]
            open_h, days = open_hours(entry, night["start"], night["until"])
            assert each.sent <= rate_jobs_per_s(entry, call_s=standing.call_s) * open_h * 3600 + 1
            assert each.sent <= (entry.limits.jobs_per_day or each.jobs) * days
            assert each.done_at is None or each.spilled == 0 or each.done_at >= night["until"]
        assert (each.spilled == 0) == (each.done_at is not None and each.done_at <= night["until"])
    asked = [each for each in found.platforms if each.settled_by is None]
    length_s = (night["until"] - night["start"]).total_seconds()
    assert sum(each.sent for each in asked) * night["house"].cost_s(platform()) <= length_s + 1


def words(night: dict[str, Any]) -> dict[str, Any]:
    """All but the platforms and their jobs."""
    return {name: value for name, value in night.items() if name not in {"platforms", "jobs"}}


def ends(found: Forecast) -> dict[tuple[str, date], datetime]:
    """When each platform is done with each release; far away if never."""
    never = datetime(9999, 1, 1, tzinfo=UTC)
    return {(each.platform, r.release): r.done_at or never for each in found.platforms for r in each.releases}


@given(night=nights(), more=st.integers(1, 300_000), which=st.integers(0, 3))
def test_more_jobs_let_nothing_be_done_earlier(night: dict[str, Any], more: int, which: int) -> None:
    """Else somebody could plan a shorter night by adding numbers."""
    chosen = night["platforms"][which % len(night["platforms"])]
    grown = {entry.key for entry in night["platforms"] if (entry.settled_by or entry.key) == chosen.key}
    jobs = {key: dict(counts) for key, counts in night["jobs"].items()}
    for key in grown:
        jobs[key][min(jobs[key])] += more
    before, later = (ends(foresee(night["platforms"], each, **words(night))) for each in (night["jobs"], jobs))
    assert [] == [each for each, end in before.items() if later[each] < end - SLACK]


@given(night=nights(), minutes=st.integers(1, 48 * 60))
def test_a_later_start_lets_nothing_be_done_earlier(night: dict[str, Any], minutes: int) -> None:
    """What is used of a day's quota belongs to that day, so it is left out here."""
    night["standings"] = {
        key: Standing(queued=each.queued, call_s=each.call_s) for key, each in night["standings"].items()
    }
    moved = night | {"start": night["start"] + timedelta(minutes=minutes), "until": night["until"] + timedelta(days=3)}
    before, later = (ends(foresee(each["platforms"], each["jobs"], **words(each))) for each in (night, moved))
    assert [] == [each for each, end in before.items() if later[each] < end - SLACK]


@given(night=nights())
def test_the_same_night_is_foreseen_the_same_and_comes_back_from_its_record(night: dict[str, Any]) -> None:
    """It is stored with the night, and compared in the morning."""
    found = foresee(night["platforms"], night["jobs"], **words(night))
    assert found == foresee(list(night["platforms"]), dict(night["jobs"]), **words(night))
    assert found == Forecast.from_json(found.to_json())
    rows = list(found.rows())
    assert found.jobs == sum(row["jobs"] for row in rows)
    assert found.spilled == sum(row["spill"] for row in rows)
