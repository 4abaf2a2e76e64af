"""The data files of studies: downloaded once, or given by path, and checked against their checksum."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from ..io import FileFormatError
from ..native.cache import folder as native_folder


@dataclass(frozen=True)
class DataFile:
    """A file of published data: its name, where it is, at a fixed commit, the SHA-256 of its content, its licence.

    >>> file = reproduce.DataFile("ones.txt", "https://example.org/ones.txt", "0" * 64, "CC0")
    >>> file.find(".")
    Traceback (most recent call last):
    FileNotFoundError: ones.txt does not exist: --data takes ones.txt or its folder; it is at https://example.org/ones...
    """

    name: str
    url: str
    sha256: str
    licence: str

    def find(self, data: str | os.PathLike[str] | None = None) -> Path:
        """The path of the file, whose content has been checked: at `data`, the file or its folder; None: downloaded.

        A download is kept in the user's folder for caches (see `TINYGRAD_GRU_CACHE`). Raises FileNotFoundError if
        `data` is not there, FileFormatError if the content is another, ImportError without pooch, and OSError, which
        says what to do, if the download fails.
        """
        if data is None:
            return self._download()
        path = Path(data) / self.name if Path(data).is_dir() else Path(data)
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist: --data takes {self.name} or its folder; {self._origin()}")
        found = sha256(path.read_bytes()).hexdigest()
        if found != self.sha256:
            raise FileFormatError(
                f"{path} has the SHA-256 {found[:8]}…, expected {self.sha256[:8]}…: it is another file, or damaged; "
                f"{self._origin()}"
            )
        return path

    def _download(self) -> Path:
        try:
            import pooch
        except ImportError as error:
            advice = f"pip install 'tinygrad_gru[reproduce]', or give --data; {self._origin()}"
            raise ImportError(f"{self.name} is downloaded by pooch: {advice}") from error
        native = native_folder()
        folder = pooch.os_cache("tinygrad_gru") if native is None else native.parent / "data"
        try:
            return Path(pooch.retrieve(self.url, f"sha256:{self.sha256}", self.name, folder))
        except ValueError as error:  # the checksum
            raise OSError(
                f"the download of {self.name} is damaged, or its origin has changed: SHA-256 other than "
                f"{self.sha256[:8]}…; give the file by --data; {self._origin()}"
            ) from error
        except Exception as error:  # those of requests, which are many, and of the disk
            raise OSError(
                f"could not download {self.name} ({type(error).__name__}); on a machine without a network, fetch it "
                f"elsewhere and give it by --data PATH; {self._origin()}"
            ) from error

    def _origin(self) -> str:
        return f"it is at {self.url} (SHA-256 {self.sha256})"
