"""What a release does with git: it reads this checkout, and writes its own commit beside it.

The release's commit is made in a worktree of its own, so branch, index and files of the checkout stay as they
are, whatever becomes of the release. At the end a tag names the commit; the branch takes it by a merge.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from tools.release import changelog, versions
from tools.release.errors import ReleaseError
from tools.release.versions import Version

CHANGELOG = "CHANGELOG.md"


def tag_of(version: Version) -> str:
    """The tag that names a release's commit."""
    return f"v{version}"


@dataclass(frozen=True)
class Checkout:
    """A clone with its files."""

    root: Path

    def git(self, *words: str | Path, folder: Path | None = None) -> str:
        """git's answer; ReleaseError with its words where it refuses."""
        return command("git", *words, folder=folder or self.root)

    def refuse_changes(self) -> None:
        """ReleaseError where a file is changed or new: a release is made of commits."""
        changed = self.git("status", "--porcelain").splitlines()
        if changed:
            shown = ", ".join(line[3:] for line in changed[:3])
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            raise ReleaseError(
                f"this checkout has changes ({shown}{more}): commit them, or `git stash -u` them"
            )

    def tagged(self, version: Version) -> str | None:
        """The commit that the version's tag names; None where there is no such tag."""
        return self.git("tag", "--list", "--format=%(objectname)", tag_of(version)).strip() or None

    def tag(self, version: Version, commit: str) -> None:
        """Names the release's commit; the same again changes nothing."""
        if self.tagged(version) is None:
            self.git("tag", tag_of(version), commit)

    def committed(self, commit: str) -> datetime:
        """When a commit was made."""
        return datetime.fromtimestamp(int(self.git("show", "--no-patch", "--format=%ct", commit)), UTC)

    @contextmanager
    def worktree(self, commit: str, place: Path) -> Iterator[Path]:
        """The files of a commit at `place`, which is cleared before and after."""
        self._clear(place)
        self.git("worktree", "add", "--quiet", "--detach", place, commit)
        try:
            yield place
        finally:
            self._clear(place)

    def _clear(self, place: Path) -> None:
        shutil.rmtree(place, ignore_errors=True)
        self.git("worktree", "prune")

    def commit_release(
        self, tree: Path, version: Version, day: date, generate: Callable[[Path], object]
    ) -> str:
        """Commits the version and its section of the changelog in the worktree `tree`; the commit.

        `generate` writes there whatever repeats the version.

        Raises:
            ReleaseError: the version may not follow, or there is nothing to release.
        """
        log = (tree / CHANGELOG).read_text()
        versions.next_release(version, versions.present(tree), changelog.released(log))
        (tree / CHANGELOG).write_text(changelog.cut(log, version, day))
        (tree / versions.FILE).write_text(f"{version}\n")
        generate(tree)
        self.git("add", "--all", folder=tree)
        self.git("commit", "--quiet", "--no-verify", "--message", f"Release {version}", folder=tree)
        return self.git("rev-parse", "HEAD", folder=tree).strip()


def command(*words: str | Path, folder: Path) -> str:
    """The output of a program; ReleaseError with the end of what it said where it fails."""
    done = subprocess.run(list(map(str, words)), cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-25:])
        raise ReleaseError(f"`{' '.join(map(str, words[:3]))} …` ended with {done.returncode}:\n{said}")
    return done.stdout
