"""Submit on a real store and broker: what was accepted is what gets queued, whoever completes it."""

import base64
from collections.abc import Iterable
from pathlib import Path

import orjson
import pytest

from backends.bootstrap import Backends
from platforms.catalogue import Catalogue
from producers.rows import Row
from producers.submit import Intake, Submitter
from schemas.batch import Basis, Batch
from schemas.errors import BackendUnavailable
from schemas.ids import new_id
from tests.command import write_platform

PLATFORMS = ("alipay", "wechat", "icbc")
ROW = Row(
    line=2,
    number="+8613800001234",
    cutoff_at="2026-11-01T00:00:00+08:00",
    reference="row-1",
    basis=Basis.PLANNED_RELEASE,
    cycle="one",
    platforms=PLATFORMS[:2],
)


def submit(backends: Backends, rows: Iterable[Row], *, run: str, platforms: tuple[str, ...] = PLATFORMS) -> Intake:
    """Submit rows with a small catalogue."""
    catalogue = Catalogue.load().select(list(platforms))
    return Submitter(backends, catalogue, operator="op").submit(rows, run=run, on_rejected=lambda _: None)


def die_before_queueing(backends: Backends, monkeypatch: pytest.MonkeyPatch, run: str) -> None:
    """Submit the row while the broker is away: it is recorded, and not queued."""

    def away(batches: Iterable[Batch]) -> int:
        raise BackendUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(backends.broker, "publish_batches", away)
        with pytest.raises(BackendUnavailable):
            submit(backends, [ROW], run=run)


def queued(backends: Backends) -> list[Batch]:
    """What waits in the bulk lane."""
    messages = backends.redis.lrange(backends.keys.queue("bulk"), 0, -1)
    bodies = [orjson.loads(base64.b64decode(orjson.loads(message)["body"])) for message in messages]
    return [Batch.parse(body[0][0]) for body in bodies]


def test_another_file_completes_what_a_dead_run_accepted(backends: Backends, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the platforms, the cut-off and the run that were accepted first, whatever the other file says."""
    first = new_id()
    die_before_queueing(backends, monkeypatch, first)
    other = ROW._replace(line=7, cutoff_at="2026-12-24T00:00:00+08:00", platforms=("icbc",))
    intake = submit(backends, [other], run=new_id())
    assert (0, 1, {first}) == (intake.accepted, intake.duplicate, intake.other_runs)
    sent = queued(backends)
    assert {*PLATFORMS[:2]} == {batch.platform for batch in sent}
    assert {(first, ROW.cutoff_at)} == {
        (batch.run, item.job.cutoff_at) for batch in sent for item in backends.manifests.open(batch)
    }


def test_a_case_whose_platforms_are_not_here_waits_for_its_own_file(
    backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A narrower catalogue queues nothing of it and does not take it for queued."""
    first = new_id()
    die_before_queueing(backends, monkeypatch, first)
    submit(backends, [ROW._replace(platforms=None)], run=new_id(), platforms=("icbc",))
    assert [] == queued(backends)
    intake = submit(backends, [ROW], run=first)
    assert 1 == intake.accepted
    assert {*PLATFORMS[:2]} == {batch.platform for batch in queued(backends)}


def test_the_same_rows_again_queue_nothing(backends: Backends) -> None:
    """The same file twice adds nothing (requirement 15)."""
    submit(backends, [ROW], run=new_id())
    before = queued(backends)
    intake = submit(backends, [ROW], run=new_id())
    assert (0, 1, 0) == (intake.accepted, intake.duplicate, intake.batches)
    assert before == queued(backends)


def test_no_number_stands_in_the_queue(backends: Backends) -> None:
    """Numbers travel sealed (rule 8)."""
    submit(backends, [ROW], run=new_id())
    messages = str(backends.redis.lrange(backends.keys.queue("bulk"), 0, -1))
    assert "13800001234" not in messages
    assert [] == [batch for batch in queued(backends) if "13800001234" in batch.model_dump_json()]


def test_platforms_that_share_an_account_system_are_asked_once(backends: Backends, tmp_path: Path) -> None:
    """Where the catalogue says so (requirement 25), and only where the one that answers for both is asked."""
    write_platform(tmp_path, "pass", account_domain="pass")
    write_platform(tmp_path, "shop", account_domain="pass", settled_by="pass")
    catalogue = Catalogue.load(tmp_path)
    submitter = Submitter(backends, catalogue, operator="op")
    rows = [ROW._replace(platforms=None), ROW._replace(line=3, number="+8613800001235", platforms=("shop",))]
    submitter.submit(rows, run=new_id(), on_rejected=lambda _: None)
    assert {"pass": 1, "shop": 1} == {batch.platform: batch.size for batch in queued(backends)}
    both, alone = (backends.store.case(*backends.store.find_by_number(row.number)) for row in rows)
    assert (("pass",), {"shop": "pass"}) == (both.platforms, both.settled)
    assert (("shop",), {}) == (alone.platforms, alone.settled)
