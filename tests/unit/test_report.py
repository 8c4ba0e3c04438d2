"""What a run leaves behind says the truth in plain words, is whole or not there, and never shows a number."""

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typing_extensions import override

from ops import page
from ops.progress import Findings, PlatformProgress, Progress, Sample, Stuck
from ops.rejected import RejectedFile
from ops.report import ResultsCsv, whole_file, write_report
from producers.rows import Rejection
from schemas.outcome import Fault, Hold, Outcome, Refusal
from schemas.record import JobRecord
from schemas.result import LATENCY_BOUNDS_MS
from schemas.state import State, Verdict
from schemas.summary import CaseCounts, JobCounts, LedgerCheck, Summary

CASE = "a" * 26
AT = datetime(2026, 11, 24, 0, 12, 3, tzinfo=UTC)
AGREES = LedgerCheck(
    agrees=True, compared=1964, without_outcome=6, disagreements=0, second_effects=0, unknown_effects=0
)
BY_STATE = {State.NO_BINDING: 1930, State.UNBOUND: 30, State.REFUSED: 4, State.DEAD: 5, State.PENDING_REVIEW: 1}
SAMPLES = [Sample(at_s=n, settled=n * 100, calls=n * 7, waiting=n % 3, dead=0) for n in range(20)]
TEMPLATE = Path(page.__file__).parent / "templates" / "report.html.j2"


class Markup(HTMLParser):
    """Notes what a page would load or run, and whether its elements nest."""

    void = frozenset({"meta", "line", "polygon", "polyline", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.fetched: list[str] = []

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element and what it would fetch."""
        self.tags.add(tag)
        self.fetched += [value or "" for key, value in attrs if key in {"src", "href", "srcset", "data"}]
        if tag not in self.void:
            self.open.append(tag)

    @override
    def handle_endtag(self, tag: str) -> None:
        """Close the innermost element, which must be this one."""
        if tag not in self.void:
            assert tag == self.open.pop()


def a_summary(
    *,
    by_state: Mapping[State, int] = BY_STATE,
    verdicts: Mapping[Verdict, int] | None = None,
    rejected: int = 0,
    ledger: LedgerCheck | None = AGREES,
) -> Summary:
    """Return what a run added up to."""
    counted = {Verdict.CLEAN: 983, Verdict.CLEAN_WITH_EXCEPTIONS: 1, Verdict.INCOMPLETE: 1}
    return Summary(
        run="b" * 26,
        cases=CaseCounts(accepted=985, rejected=rejected, duplicate=0),
        jobs=JobCounts(
            total=sum(by_state.values()),
            by_state=dict(by_state),
            by_outcome={Outcome(state): n for state, n in by_state.items() if state in Outcome.__members__},
        ),
        verdicts=dict(counted if verdicts is None else verdicts),
        attempts=1200,
        calls=700,
        duration_s=17.4,
        jobs_per_s=113.2,
        files={"results": "results.csv"},
        ledger=ledger,
    )


def a_platform(key: str, *, faults: Mapping[str, int] | None = None, dead: int = 0) -> PlatformProgress:
    """Return a platform whose calls took 20 to 50 ms."""
    latencies = [0] * (len(LATENCY_BOUNDS_MS) + 1)
    latencies[3] = 10
    return PlatformProgress(
        key=key,
        name_zh="工商银行",
        name_en=key.upper(),
        category="bank",
        by_state={State.NO_BINDING: 980, State.DEAD: dead},
        calls=10,
        attempts=10,
        faults=faults or {},
        statuses={"200": 10, "503": 2} if faults else {"200": 10},
        latencies=tuple(latencies),
    )


def a_progress(*platforms: PlatformProgress) -> Progress:
    """Return the end of a run."""
    return Progress(
        at_s=17.4,
        cases_accepted=985,
        cases_rejected=0,
        cases_duplicate=0,
        intake_done=True,
        jobs_total=1970,
        by_state=BY_STATE,
        verdicts={},
        attempts=1200,
        calls=700,
        platforms=platforms,
        workers_alive=2,
        events=(),
    )


def the_page(
    folder: Path,
    *,
    summary: Summary | None = None,
    progress: Progress | None = None,
    samples: list[Sample] | None = None,
    rejected: list[tuple[int, str, str, str]] | None = None,
    findings: Findings | None = None,
    command: str = "renewal run numbers.csv --sandbox",
) -> str:
    """Write a report and return its page, white space folded."""
    write_report(
        folder,
        summary=summary or a_summary(),
        progress=progress or a_progress(a_platform("icbc"), a_platform("abc")),
        samples=SAMPLES if samples is None else samples,
        rejected=rejected or [],
        started_at=AT,
        finished_at=AT,
        command=command,
        sandbox=True,
        findings=findings,
    )
    return re.sub(r"\s+", " ", (folder / "report.html").read_text(encoding="utf-8"))


def results(folder: Path, *jobs: tuple[str, JobRecord], reference: str = "R-1", number: str = "138****1234") -> str:
    """Write one case and return the file."""
    with ResultsCsv(folder / "results.csv") as file:
        file.write_case(reference=reference, number=number, case=CASE, jobs=jobs)
    return (folder / "results.csv").read_text(encoding="utf-8")


# -- results.csv and rejected.csv ------------------------------------------------------------------------------------


def write_rejected(folder: Path, rejection: Rejection) -> None:
    """Write a file of one refused row."""
    with RejectedFile(folder / "rejected.csv") as file:
        file.keep(rejection)


def test_results_hold_one_row_a_job_with_times_in_utc(tmp_path: Path) -> None:
    """A state that is an outcome is in both columns; what has not happened is empty."""
    sent_s = int(AT.timestamp())
    refused = JobRecord(
        state=State.REFUSED, reason=Refusal.LEGAL_HOLD, attempts=2, first_sent_s=sent_s, settled_s=sent_s + 60
    )

    assert (
        "reference,number,case,platform,state,outcome,reason,attempts,first_sent_at,settled_at\n"
        f"R-1,138****1234,{CASE},icbc,REFUSED,REFUSED,legal_hold,2,2026-11-24T00:12:03Z,2026-11-24T00:13:03Z\n"
        f"R-1,138****1234,{CASE},abc,QUEUED,,,0,,\n"
    ) == results(tmp_path, ("icbc", refused), ("abc", JobRecord()))


def test_every_state_has_its_cells(tmp_path: Path) -> None:
    """The outcome column holds the state where it is an outcome, and nothing else ever."""
    text = results(tmp_path, *((state.lower(), JobRecord(state=state)) for state in State))
    rows = list(csv.DictReader(text.splitlines()))

    assert [str(state) for state in State] == [row["state"] for row in rows]
    assert set(Outcome) == {row["outcome"] for row in rows} - {""}
    assert all(row["outcome"] in {"", row["state"]} for row in rows)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_a_cell_that_starts_like_a_formula_becomes_text(tmp_path: Path, start: str) -> None:
    """A spreadsheet that opens the file runs nothing that came from outside."""
    write_rejected(tmp_path, Rejection(line=3, field="basis", problem="unknown", value=f"{start}cmd()"))
    reference = list(csv.DictReader(results(tmp_path, ("icbc", JobRecord()), reference=f"{start}1").splitlines()))
    value = list(csv.DictReader((tmp_path / "rejected.csv").read_text(encoding="utf-8").splitlines()))

    assert f"'{start}1" == reference[0]["reference"]
    assert f"'{start}cmd()" == value[0]["value"]


@pytest.mark.parametrize("reference", ["", "a,b", 'say "hi"', "two\nlines", "行 7", "'quoted"])
def test_any_reference_comes_back_as_it_was(tmp_path: Path, reference: str) -> None:
    """Commas, quotes, new lines and Chinese text survive the way through the file."""
    text = results(tmp_path, ("icbc", JobRecord()), reference=reference)
    rows = list(csv.reader(text.splitlines(keepends=True)))

    assert reference == rows[1][0]
    assert 10 == len(rows[1])


def test_results_refuse_a_number_that_is_not_masked_and_leave_no_file(tmp_path: Path) -> None:
    """The mistake is found where it is made, and nothing half-written stays."""
    with pytest.raises(ValueError, match="masked numbers only"):
        results(tmp_path, ("icbc", JobRecord()), number="+8613800001234")

    assert [] == list(tmp_path.iterdir())


def test_a_reference_that_is_a_number_is_masked(tmp_path: Path) -> None:
    """Numbers are never in the clear, even where the operator used them as its own row id."""
    assert "13800001234" not in results(tmp_path, ("icbc", JobRecord()), reference="8613800001234")


def test_findings_group_what_needs_a_person_and_count_refusals(tmp_path: Path) -> None:
    """The most frequent comes first, each with the first case that showed it."""
    dead = JobRecord(state=State.DEAD, reason=Fault.TIMEOUT)
    review = JobRecord(state=State.PENDING_REVIEW, reason=Hold.UNKNOWN_CODE)
    refused = JobRecord(state=State.REFUSED, reason=Refusal.LEGAL_HOLD)
    with ResultsCsv(tmp_path / "results.csv") as file:
        file.write_case(reference="", number="138****1234", case="x", jobs=[("icbc", dead), ("abc", review)])
        file.write_case(reference="", number="138****1235", case="y", jobs=[("icbc", dead), ("abc", refused)])

    stuck = (
        Stuck(state=State.DEAD, platform="icbc", reason="timeout", count=2, case="x"),
        Stuck(state=State.PENDING_REVIEW, platform="abc", reason="unknown_code", count=1, case="x"),
    )
    assert Findings(refusals={"legal_hold": 1}, stuck=stuck) == file.findings


@pytest.mark.parametrize(
    "value", ["13800001234", "138 0000 1234", "+852 9123-4567", "(010) 6278 1234", "１３８００００１２３４"]
)
def test_a_rejected_number_is_masked_however_it_is_spelled(tmp_path: Path, value: str) -> None:
    """No more than five digits of it are left, in the file and on the page."""
    write_rejected(tmp_path, Rejection(line=3, field="number", problem="not valid", value=value))
    row = list(csv.reader((tmp_path / "rejected.csv").read_text(encoding="utf-8").splitlines()))[1]

    assert sum(character.isdigit() for character in row[3]) <= 5
    assert value not in the_page(tmp_path, summary=a_summary(rejected=1), rejected=[(3, "number", "not valid", value)])


def test_a_rejected_date_stays_readable(tmp_path: Path) -> None:
    """Only the number's own column loses spaced digits."""
    write_rejected(tmp_path, Rejection(line=3, field="cutoff_at", problem="no such day", value="2026-13-01"))
    assert "3,cutoff_at,no such day,2026-13-01\n" in (tmp_path / "rejected.csv").read_text(encoding="utf-8")


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    """While it is written the old one stands; an error leaves the old one and nothing else."""
    path = tmp_path / "results.csv"
    path.write_text("old", encoding="utf-8")

    def interrupted() -> None:
        with whole_file(path) as file:
            file.write("new")
            assert "old" == path.read_text(encoding="utf-8")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert [path] == list(tmp_path.iterdir())
    assert "old" == path.read_text(encoding="utf-8")


# -- the page --------------------------------------------------------------------------------------------------------


def test_the_page_says_the_verdict_first(tmp_path: Path) -> None:
    """How many numbers are clean, what the others are, and that it was checked."""
    text = the_page(tmp_path)

    assert "<h1>983 of 985 numbers are clean at all 2 platforms.</h1>" in text
    assert "1 has exceptions: every platform answered" in text
    assert "1 is incomplete: an answer" in text
    assert "Every recorded outcome (1,964) was compared with the platforms&#39; own ledger: they agree" in text
    assert "6 ended without an answer" in text


def test_the_headline_names_no_platform_count_that_some_numbers_did_not_have() -> None:
    """Rows may name their own platforms: then it says so."""
    assert "983 of 985 numbers are clean at every platform that was asked." == page.headline(a_summary(), platforms=240)


@pytest.mark.parametrize(
    ("ledger", "sandbox", "words"),
    [
        (AGREES.model_copy(update={"agrees": False, "second_effects": 2}), True, "does not agree"),
        (None, True, "simulated platforms' ledger was not read"),
        (None, False, "real platforms show no ledger"),
    ],
)
def test_a_ledger_that_disagrees_or_is_missing_is_never_a_success(
    ledger: LedgerCheck | None, sandbox: bool, words: str
) -> None:
    """Not compared is not the same as compared and equal."""
    sentence = page.ledger_sentence(ledger, sandbox=sandbox)

    assert words in sentence
    assert "they agree" not in sentence


def test_the_page_is_self_contained_and_well_formed(tmp_path: Path) -> None:
    """It loads nothing, runs nothing, and every element is closed."""
    the_page(tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    markup = Markup()
    markup.feed(text)

    assert [] == markup.open
    assert [] == markup.fetched
    assert {"script", "link", "img", "iframe"}.isdisjoint(markup.tags)
    assert "url(" not in text
    assert "@import" not in text


def test_values_are_escaped(tmp_path: Path) -> None:
    """What came from a file or a catalogue is text, never markup."""
    evil = "<script>alert(1)</script>"
    platform = replace(a_platform("icbc"), name_en=evil, category=evil)
    text = the_page(
        tmp_path,
        summary=a_summary(rejected=1),
        progress=a_progress(platform),
        rejected=[(2, evil, evil, evil)],
        command=evil,
    )

    assert evil not in text
    assert "&lt;script&gt;" in text


def test_small_outcomes_have_a_scale_of_their_own() -> None:
    """30 of 1,970 would be a hairline beside 1,930; enlarged, the greatest of the rest fills its bar."""
    chart = page.outcomes(BY_STATE)

    assert ["no binding"] == [bar.label for bar in chart.main]
    assert ["unbound", "dead", "refused", "for review"] == [bar.label for bar in chart.rest]
    assert (30, 100.0) == (chart.rest_full, chart.rest[0].width_pct)


def test_outcomes_of_like_size_share_one_scale() -> None:
    """Two scales only where one would hide something."""
    chart = page.outcomes({State.UNBOUND: 60, State.NO_BINDING: 40})

    assert [60.0, 40.0] == [bar.width_pct for bar in chart.main]
    assert () == chart.rest


def test_a_person_is_told_what_to_type_next(tmp_path: Path) -> None:
    """Each state that needs a person has its export, each cause a case to look at."""
    stuck = Stuck(state=State.DEAD, platform="icbc", reason="timeout", count=5, case=CASE)
    text = the_page(tmp_path, findings=Findings(refusals={"legal_hold": 4}, stuck=(stuck,)))

    typed = '<code class="command">renewal results export --sandbox --state DEAD</code>'
    assert f"5 jobs are dead. List them with {typed}" in text
    assert "1 job is for review. List it with" in text
    assert f"renewal status --sandbox --case {CASE}" in text
    assert "timed out" in text
    assert "legal hold" in text


def test_faults_are_told_with_how_they_ended(tmp_path: Path) -> None:
    """A platform that failed and recovered is told from one that cost jobs."""
    recovered = a_platform("icbc", faults={Fault.SERVER_ERROR: 12, Fault.TIMEOUT: 3})
    text = the_page(tmp_path, progress=a_progress(recovered, a_platform("abc", faults={Fault.DNS: 1}, dead=4)))

    assert "server error × 12 · timed out × 3" in text
    assert "HTTP 503 × 2" in text
    assert "all answered" in text
    assert "4 dead" in text
    assert "2 of 2 platforms failed at least once" in text


def test_each_empty_part_says_why_it_is_empty(tmp_path: Path) -> None:
    """Nothing wrong, nothing done and nothing found read differently."""
    fine = the_page(tmp_path, summary=a_summary(by_state={State.NO_BINDING: 1970}, verdicts={Verdict.CLEAN: 985}))
    idle = a_summary(by_state={}, verdicts={}, ledger=None).model_copy(update={"calls": 0})
    nothing = the_page(tmp_path, summary=idle, progress=a_progress(), samples=[])

    for said in ("None has an exception, none is incomplete.", "Nothing: no job is dead", "No platform refused.",
                 "None: every call brought an answer.", "None: every row could be read."):  # fmt: skip
        assert said in fine
    for said in ("No number was renewed", "no platform was asked", "too short to draw", "None: no platform was called.",
                 "No platform took part.", "Not checked."):  # fmt: skip
        assert said in nothing


def test_only_the_first_twenty_rejected_rows_are_shown(tmp_path: Path) -> None:
    """The page stays readable and says where the rest is."""
    rows = [(n, "basis", "unknown", "x") for n in range(2, 40)]
    text = the_page(tmp_path, summary=a_summary(rejected=38), rejected=rows)

    assert "38 rejected; all in rejected.csv, the first 20 here." in text
    assert 20 == text.count("basis<span")


def test_charts_have_words_and_figures_beside_them(tmp_path: Path) -> None:
    """A curve is a picture with a label, and the same as a table."""
    text = the_page(tmp_path)

    assert 'aria-label="Jobs settled over 19 s: at most 1,900 jobs, 1,900 at the end"' in text
    assert 'aria-label="Calls per second over 19 s: at most 7 calls a second, 7 at the end"' in text
    assert "The same as figures" in text


def test_curves_stay_in_their_box_and_are_bounded() -> None:
    """Ten thousand samples draw no more than sixty steps, none outside the axes."""
    samples = [Sample(at_s=n / 4, settled=n * n, calls=n * 7, waiting=0, dead=0) for n in range(10_000)]
    charts = page.charts(samples)

    assert ["Jobs settled", "Calls per second"] == [chart.title for chart in charts]
    for chart in charts:
        points = [tuple(map(float, pair.split(","))) for pair in chart.points.split()]
        assert page.CHART_STEPS_MAX + 1 == len(points)
        assert all(0 <= x <= 100 and 0 <= y <= 100 for x, y in points)


def test_samples_at_one_moment_draw_nothing_and_break_nothing() -> None:
    """A run that was over before the second look has no curve."""
    assert () == page.charts([SAMPLES[0], SAMPLES[0]])
    assert () == page.figure_rows([])


@pytest.mark.parametrize("scheme", [0, 1])
def test_text_has_the_contrast_of_wcag_aa(scheme: int) -> None:
    """Every colour that carries text stands out 4.5 to 1 from the paper and the tracks, light and dark."""
    blocks = re.findall(r":root \{(.*?)\}", TEMPLATE.read_text(encoding="utf-8"), re.DOTALL)
    colours = dict(re.findall(r"--(\w+): #([0-9a-f]{6});", blocks[scheme]))

    for name in ("ink", "quiet", "link", "clean", "person"):
        assert contrast(colours[name], colours["paper"]) >= 4.5
    for name in ("ink", "quiet"):
        assert contrast(colours[name], colours["track"]) >= 4.5


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours as WCAG 2 defines it."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


# -- report.json -----------------------------------------------------------------------------------------------------


def test_report_json_is_the_summary_and_the_platforms(tmp_path: Path) -> None:
    """A program reads the same figures as a person: the summary parses back, the platforms stand beside it."""
    the_page(tmp_path)
    data = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))

    assert a_summary() == Summary.model_validate({name: data[name] for name in Summary.model_fields})
    assert ["icbc", "abc"] == [platform["key"] for platform in data["platforms"]]
    assert 35.0 == data["platforms"][0]["p50_ms"]
    assert {"zh": "工商银行", "en": "ICBC"} == data["platforms"][0]["name"]
    assert "2026-11-24T00:12:03Z" == data["started_at"]


def test_a_number_on_the_command_line_is_masked(tmp_path: Path) -> None:
    """A file may be called after a number."""
    text = the_page(tmp_path, command="renewal run 13800001234.csv")

    assert "13800001234" not in text
    assert "138****1234.csv" in text
