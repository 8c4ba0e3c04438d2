"""`renewal keys webhook create`: keys that sign, and nothing of them in a wrong place."""

import stat
from datetime import UTC, datetime
from pathlib import Path

from typer.testing import CliRunner

from backends.signature import sign, verify
from ops.cli.keys import app

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def create(*options: str | Path) -> tuple[int, list[str], str, BaseException | None]:
    """Run the command; return exit code, standard output by lines, standard error, and what it raised."""
    done = CliRunner().invoke(app, ["webhook", "create", *map(str, options)])
    return done.exit_code, done.stdout.splitlines(), done.stderr, done.exception


def fits(private: str, public: str) -> bool:
    """Tell whether what one key signs the other one lets in."""
    given = {
        "webhook-id": "m",
        "webhook-timestamp": str(int(NOW.timestamp())),
        "webhook-signature": sign([private], message_id="m", timestamp=NOW, body=b"{}"),
    }
    return verify([public], given, b"{}", now=NOW) == "m"


def test_a_secret_is_printed_alone() -> None:
    """Standard output is what goes into a file or a vault: the words for a person stand elsewhere."""
    code, out, err, _ = create()
    assert (0, 1) == (code, len(out))
    assert fits(out[0], out[0])
    assert out[0] not in err


def test_a_pair_is_printed_private_first() -> None:
    """The public key is what the other side gets."""
    code, out, err, _ = create("--v1a")
    assert 0 == code
    private, public = out
    assert (True, True) == (private.startswith("whsk_"), public.startswith("whpk_"))
    assert fits(private, public)
    assert private not in err


def test_a_file_is_its_owners_alone_and_holds_what_is_not_printed(tmp_path: Path) -> None:
    """Neither the screen nor another user of the machine sees the private key."""
    path = tmp_path / "acme.key"
    code, out, err, _ = create("--v1a", "--file", path)
    private = path.read_text(encoding="ascii").strip()
    assert (0, 0o600) == (code, stat.S_IMODE(path.stat().st_mode))
    assert fits(private, out[0])
    assert private not in "".join(out) + err


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    """The calls that are signed with it would be refused from then on."""
    path = tmp_path / "acme.key"
    create("--file", path)
    before = path.read_bytes()
    code, out, _, raised = create("--file", path)
    assert code
    assert "Refused" == type(raised).__name__
    assert ([], before) == (out, path.read_bytes())
