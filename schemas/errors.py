"""The error tree. What a platform did is never an exception; these are faults of ours or of our input.

RenewalError                  one clear message for a person, and the exit code of the command
├── InputError                a file or an argument is wrong: names file, line and field
├── NotFound                  the platform, case, run or number asked for is not there
├── ConfigurationError        settings, keys or secrets are missing or malformed: refuse to start
│   └── CatalogueError        a catalogue entry is wrong: names file and field
├── Refused                   a rule or a precondition forbids it
├── TimeLimit                 the time the caller allowed is over
├── BackendUnavailable        Redis or the broker cannot be reached: says what was tried
└── ContractError             a message that can never be read: bury it whole
"""

from typing import ClassVar


class RenewalError(Exception):
    """Carries one message that tells a person what is wrong and what to do."""

    exit_code: ClassVar[int] = 1


class InputError(RenewalError):
    """A file or argument given by the user is wrong."""

    exit_code = 2


class NotFound(RenewalError):
    """What was asked for does not exist."""

    exit_code = 5


class ConfigurationError(RenewalError):
    """A setting, key or secret is missing or malformed; nothing was started."""


class CatalogueError(ConfigurationError):
    """A catalogue entry is wrong; the message names each file and field."""


class Refused(RenewalError):
    """A rule or precondition forbids the action."""

    exit_code = 6


class TimeLimit(RenewalError):
    """The time that the caller allowed is over; the work itself is kept."""

    exit_code = 7


class BackendUnavailable(RenewalError):
    """Redis or the broker cannot be reached; the message says what was tried and how to set it."""

    exit_code = 8


class ContractError(RenewalError):
    """A message that no later try could read."""
