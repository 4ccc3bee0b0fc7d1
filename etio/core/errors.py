"""What can go wrong, as types.

    EtioError
    ├── ConfigError    the configuration holds mistakes; carries all of them
    ├── NoData         nothing is there, and that is no fault (no GPU, PSI switched off)
    ├── Broken         something is there but cannot be read or understood
    ├── StoreError     the database cannot be opened or written
    └── ModelError     a chat model is down, slow, or answers nonsense
"""

from collections.abc import Sequence


class EtioError(Exception):
    """Base of every error raised on purpose; its text names the place and the remedy."""


class ConfigError(EtioError):
    """The configuration holds mistakes; `problems` lists every one as "file: key: what, remedy"."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class NoData(EtioError):
    """The source does not exist on this host. Not a fault: its series stay missing and nobody is paged."""


class Broken(EtioError):
    """The source exists but is unreadable, truncated or of an unknown form."""


class StoreError(EtioError):
    """The database cannot be opened or written."""


class ModelError(EtioError):
    """A chat model could not be used; the text is the reason that the report states."""
