"""The composition root: settings in, everything that stands on Redis and the broker out."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from backends.actions import Actions
from backends.admission import Admission
from backends.api_keys import ApiKeys
from backends.authorisations import Authorisations
from backends.broker import Broker
from backends.callbacks import Callbacks
from backends.clock import Clock, SystemClock
from backends.connect import connect
from backends.custody import Custody
from backends.dead import DeadLetters
from backends.dispatch import Dispatch
from backends.embedded import EmbeddedValkey
from backends.expected import ExpectedAnswers
from backends.figures import Figures
from backends.gates import Gates
from backends.heartbeat import Heartbeats
from backends.idempotency import Idempotency
from backends.instruments import Instruments
from backends.kept import KeptItems
from backends.keys import Keys
from backends.manifests import Manifests
from backends.origins import Origins
from backends.outbox import Outbox
from backends.owner_links import OwnerLinks
from backends.pace import Paces
from backends.replays import Replays
from backends.runs import Runs
from backends.sessions import Sessions
from backends.settings import Settings
from backends.store import StatusStore
from backends.subscribers import Subscribers
from backends.sweeps import Sweeps
from backends.vault import Vault, new_key_file, write_key_file
from backends.waiting import WaitingSet
from backends.waiting_view import WaitingView
from backends.withdrawals import Withdrawals
from schemas.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Backends:
    """Everything a process stands on."""

    settings: Settings
    redis: Redis
    keys: Keys
    vault: Vault
    broker: Broker
    store: StatusStore
    manifests: Manifests
    runs: Runs
    actions: Actions
    admission: Admission
    gates: Gates
    waiting: WaitingSet
    custody: Custody
    dispatch: Dispatch
    waiting_view: WaitingView
    dead: DeadLetters
    kept: KeptItems
    callbacks: Callbacks
    expected: ExpectedAnswers
    origins: Origins
    replays: Replays
    sweeps: Sweeps
    outbox: Outbox
    subscribers: Subscribers
    withdrawals: Withdrawals
    heartbeats: Heartbeats
    figures: Figures
    api_keys: ApiKeys
    sessions: Sessions
    authorisations: Authorisations
    instruments: Instruments
    owner_links: OwnerLinks
    idempotency: Idempotency
    paces: Paces
    clock: Clock

    def close(self) -> None:
        """Close every connection."""
        self.broker.close()
        self.redis.connection_pool.disconnect()


def open_backends(settings: Settings, *, clock: Clock | None = None) -> Backends:
    """Connect. Raises ConfigurationError or BackendUnavailable, which say what was tried."""
    if settings.redis_url is None:
        raise ConfigurationError("RENEWAL_REDIS_URL is not set; `renewal up` starts the whole system with a Valkey")
    vault = load_vault(settings)
    redis = connect(settings.redis_url)
    keys = Keys(settings.namespace)
    clock = clock or SystemClock()
    broker = Broker(settings.broker_url or settings.redis_url, keys)
    custody = Custody(redis, keys)
    manifests = Manifests(redis, keys, vault)
    store = StatusStore(redis, keys, vault, manifests, tells=settings.subscribers is not None)
    return Backends(
        settings=settings,
        redis=redis,
        keys=keys,
        vault=vault,
        broker=broker,
        store=store,
        manifests=manifests,
        runs=Runs(redis, keys),
        actions=Actions(redis, keys),
        admission=Admission(redis, keys),
        gates=Gates(redis, keys),
        waiting=WaitingSet(redis, keys),
        custody=custody,
        dispatch=Dispatch(broker, custody, clock),
        waiting_view=WaitingView(redis, keys, manifests),
        dead=DeadLetters(redis, keys, store),
        kept=KeptItems(redis, keys),
        callbacks=Callbacks(redis, keys),
        expected=ExpectedAnswers(redis, keys),
        origins=Origins(redis, keys, vault),
        replays=Replays(redis, keys),
        sweeps=Sweeps(redis, keys),
        outbox=Outbox(redis, keys, wanted=settings.subscribers is not None),
        subscribers=Subscribers(redis, keys),
        withdrawals=Withdrawals(redis, keys),
        heartbeats=Heartbeats(redis, keys),
        figures=Figures(redis, keys),
        api_keys=ApiKeys(redis, keys),
        sessions=Sessions(redis, keys),
        authorisations=Authorisations(redis, keys),
        instruments=Instruments(redis, keys),
        owner_links=OwnerLinks(redis, keys),
        idempotency=Idempotency(redis, keys, vault),
        paces=Paces(redis, keys),
        clock=clock,
    )


def load_vault(settings: Settings) -> Vault:
    """Read the number keys. Raises ConfigurationError that says where they were looked for."""
    if settings.number_keys is not None:
        return Vault.parse(settings.number_keys.get_secret_value(), source="RENEWAL_NUMBER_KEYS")
    path = settings.number_keys_file
    if path is None:
        raise ConfigurationError(
            "number keys missing: set RENEWAL_NUMBER_KEYS_FILE (make one with `renewal keys create FILE`)"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"RENEWAL_NUMBER_KEYS_FILE: {path} cannot be read ({type(error).__name__})") from None
    return Vault.parse(text, source=str(path))


@contextlib.contextmanager
def embedded_if_needed(settings: Settings) -> Iterator[tuple[Settings, EmbeddedValkey | None]]:
    """Yield settings with a Redis URL and keys, and the server if it is our own.

    Without RENEWAL_REDIS_URL a Valkey is started (or adopted) for as long as the context lasts, and number keys are
    made beside its data on the first start. With a URL the keys must have been given.
    """
    if not settings.embedded:
        yield settings, None
        return
    settings = settings.model_copy(update={"data_dir": settings.data_dir.resolve()})
    if settings.number_keys is None and settings.number_keys_file is None:
        settings = settings.model_copy(update={"number_keys_file": _embedded_keys(settings.data_dir)})
    with EmbeddedValkey(settings.data_dir / "valkey") as server:
        yield settings.model_copy(update={"redis_url": server.url}), server


def _embedded_keys(data_dir: Path) -> Path:
    path = data_dir / "number-keys"
    if not path.exists():
        write_key_file(path, new_key_file())
    return path
