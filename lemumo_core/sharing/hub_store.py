"""A package as a model repository on the Hugging Face Hub, or on a server that speaks its API."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from lemumo_core.extras import install_line
from lemumo_core.faults import Fault
from lemumo_core.files import URI
from lemumo_core.inference.signature import SIGNATURE_NAME
from lemumo_core.sharing.store import NO_REPOSITORY

ENDPOINT = "HF_ENDPOINT"
"""Environment variable of the hub's own library: another server than huggingface.co."""
CACHE = ".cache"
"""Folder in which the library keeps what it needs to go on with a download."""
T = TypeVar("T")


class HubStore:
    """A model repository.

    Args:
        repository: ``OWNER/NAME``.
        revision: branch, tag or commit; None takes the main branch.

    Raises:
        ImportError: huggingface_hub is not installed.
    """

    def __init__(self, repository: str, revision: str | None = None):
        try:
            from huggingface_hub import HfApi
        except ImportError as error:
            raise ImportError(f"hf:// needs huggingface_hub: {install_line('hub')}") from error
        self.repository, self.revision = repository, revision
        self._api = HfApi(endpoint=os.environ.get(ENDPOINT) or None)

    @classmethod
    def of(cls, address: str) -> HubStore:
        """Return the store of ``hf://OWNER/NAME[@REVISION]``.

        Raises:
            Fault: ``bad_address``.
        """
        name, _, revision = URI.sub("", address, count=1).partition("@")
        if name.count("/") != 1 or not all(name.split("/")):
            raise Fault(
                "bad_address", f"{address}: write hf://OWNER/NAME or hf://OWNER/NAME@REVISION"
            )
        return cls(name, revision or None)

    @functools.cached_property
    def commit(self) -> str:
        """Commit that the revision means, so that all files are of one."""
        info = self._call(self._api.model_info, self.repository, revision=self.revision)
        return str(info.sha)

    def fetch(self, name: str, path: Path) -> None:
        """See ``Store``; the hub's library goes on with what it has in ``.cache``."""
        from huggingface_hub.errors import EntryNotFoundError

        folder = path.parent / CACHE
        try:
            copy = self._call(
                self._api.hf_hub_download,
                self.repository,
                name,
                revision=self.commit,
                local_dir=folder,
            )
        except EntryNotFoundError as error:
            raise FileNotFoundError(f"hf://{self.repository} has no {name}") from error
        shutil.move(copy, path)

    def publish(self, folder: Path, names: Sequence[str]) -> None:
        """See ``Store``: one commit, so that the repository is never half of a package."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        if self.revision is None:
            self._call(self._api.create_repo, self.repository, private=True, exist_ok=True)
        there = self._call(self._api.list_repo_files, self.repository, revision=self.revision)
        gone = [name for name in there if name.endswith(".onnx") or name == SIGNATURE_NAME]
        self._call(
            self._api.create_commit,
            self.repository,
            [
                *(CommitOperationAdd(name, folder / name) for name in names),
                *(CommitOperationDelete(name) for name in gone if name not in names),
            ],
            commit_message="Upload a model package of lemumo",
            revision=self.revision,
        )

    def _call(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Call the library; what it refuses names the cure.

        Raises:
            Fault: ``no_access``; ``bad_source``.
        """
        import httpx  # the library's own, whose errors it lets through
        from huggingface_hub.errors import (
            EntryNotFoundError,
            HfHubHTTPError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
        )

        where = f"hf://{self.repository}"
        try:
            return function(*arguments, **options)
        except (httpx.TransportError, LocalEntryNotFoundError) as error:
            raise Fault(
                "bad_source",
                f"{where}: {self._api.endpoint} does not answer ({error}); run the command again, "
                f"it goes on where it stopped; {ENDPOINT} names another server",
            ) from error
        except EntryNotFoundError:
            raise
        except RepositoryNotFoundError as error:
            raise Fault(
                NO_REPOSITORY,
                f"{where} does not exist, or is not for everybody: check the name, and log in (hf "
                "auth login, or a token in HF_TOKEN)",
            ) from error
        except HfHubHTTPError as error:
            code = error.response.status_code if error.response is not None else "none"
            raise Fault(
                "no_access" if code in (401, 403) else "bad_source",
                f"{where}: {error}"
                + ("; log in (hf auth login, or HF_TOKEN)" if code in (401, 403) else ""),
            ) from error
