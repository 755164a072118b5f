"""`omi run`: jobs of files without a server; a folder in, a folder out."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click

from omi_runtime import environment
from omi_runtime.cli.loaded import MODEL_HELP, fail, with_model
from omi_runtime.errors import OMIError, SettingsError
from omi_runtime.folders import Roots
from omi_runtime.handler import ModelHandler
from omi_runtime.jobfiles import Job, JobFiles, job_files
from omi_runtime.jobsettings import JobSettings
from omi_runtime.request import RequestContext
from omi_runtime.runner import Wanted
from omi_runtime.threads import FILE_THREADS, Threads

_MOST_AT_ONCE: Final = 256
"""Jobs whose inputs are in memory at once, however large the model's batches are."""

_FOLDER = click.Path(file_okay=False, path_type=Path)
_EXISTING_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command("run", epilog=MODEL_HELP)
@click.argument("model", required=False)
@click.option("--input", "source", type=_EXISTING_FOLDER, required=True, help="Of the inputs.")
@click.option("--output", "target", type=_FOLDER, required=True, help="Made if it is missing.")
@click.option("--each", is_flag=True, help="Every subfolder of the input is a job.")
@click.option("--again", is_flag=True, help="With --each: also what has been done already.")
@click.option("--explain", is_flag=True, help="Ask for explanations too.")
@click.option("--drift", is_flag=True, help="Ask for drift too.")
def run_command(
    model: str | None,
    source: Path,
    target: Path,
    *,
    each: bool,
    again: bool,
    explain: bool,
    drift: bool,
) -> None:
    """Predict from files to files, without a server: what the modzy interface's /run does.

    The input folder holds a file for each input, the output folder gets results.json and a file
    for each Bytes output. With --each every subfolder of the input is such a job, and its answer is
    in the subfolder of that name in the output. Run again, it goes on where it stopped.
    OMI_DATA_ROOTS and OMI_ENFORCE_CARD hold for it too.
    """
    try:
        if again and not each:
            raise SettingsError("--again is for --each: a single job is run whatever is there")
        settings = environment.read(JobSettings)
    except SettingsError as invalid:
        fail(invalid)

    async def run(handler: ModelHandler) -> Outcome:
        roots = Roots(settings.data_roots)
        files = job_files(handler, roots, enforce_card=settings.enforce_card)
        jobs = [Job(str(source), str(target))]
        done = 0
        if each:
            found = list(_jobs_in(source, target))
            jobs = [job for job in found if again or not _is_done(job, files)]
            done = len(found) - len(jobs)
        with _progress(len(jobs), shown=each) as advance:
            batch = _Batch(handler, files, Wanted(explain, drift), advance)
            return Outcome(done, len(jobs), await batch.run(jobs))

    outcome = with_model(model, run)
    for job, error in outcome.failures:
        click.echo(f"omi: {job.input}: {error.message}", err=True)
    if each:
        nothing = f": {source} has no subfolders, which are the jobs" if outcome.is_nothing else ""
        click.echo(f"omi: {outcome}{nothing}", err=True)
    if outcome.failures:
        raise SystemExit(1)


@dataclass(frozen=True)
class Outcome:
    """What became of all the jobs: how many were there before, how many were run, what failed."""

    before: int
    run: int
    failures: list[tuple[Job, OMIError]]

    @property
    def is_nothing(self) -> bool:
        """There was no job at all."""
        return not (self.before or self.run)

    def __str__(self) -> str:
        parts = {
            "done": self.run - len(self.failures),
            "done before": self.before,
            "failed": len(self.failures),
        }
        return ", ".join(f"{n} {what}" for what, n in parts.items() if n or what == "done")


@dataclass
class _Batch:
    """Runs many jobs, as many at once as fill the model's batches."""

    handler: ModelHandler
    files: JobFiles
    wanted: Wanted
    advance: Callable[[int], None]
    failures: list[tuple[Job, OMIError]] = field(default_factory=list)

    async def run(self, jobs: list[Job]) -> list[tuple[Job, OMIError]]:
        """Run them all; returns those that failed, in order."""
        self._threads = Threads()
        waiting = iter(jobs)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(len(jobs), self._at_once())):
                group.create_task(self._work(waiting))
        order = {job.input: position for position, job in enumerate(jobs)}
        return sorted(self.failures, key=lambda failure: order[failure[0].input])

    def _at_once(self) -> int:
        """While one batch is predicted, the next is read; and never more than the queue takes."""
        settings, card = self.handler.settings, self.handler.card
        assert card is not None, "it is there once the model has loaded"
        largest = min(card.features.max_batch_size, settings.max_batch_size or _MOST_AT_ONCE)
        return max(1, min(2 * largest + FILE_THREADS, settings.queue_size, _MOST_AT_ONCE))

    async def _work(self, waiting: Iterator[Job]) -> None:
        for job in waiting:
            try:
                row = await self._threads.run(self.files.read, job)
                # Nobody waits for an answer in time.
                request = RequestContext("run", job.input)
                result = await self.handler.infer_rows([row], self.wanted, request)
                await self._threads.run_steps(self.files.write, job, result)
            except OMIError as error:
                self.failures.append((job, error))
            self.advance(1)


def _jobs_in(source: Path, target: Path) -> Iterator[Job]:
    """A job for each subfolder, in the order of their names; the output may be one of them."""
    for folder in sorted(source.iterdir()):
        if folder.is_dir() and not folder.name.startswith(".") and not _is_same(folder, target):
            yield Job(str(folder), str(target / folder.name))


def _is_same(folder: Path, other: Path) -> bool:
    return other.exists() and folder.samefile(other)


def _is_done(job: Job, files: JobFiles) -> bool:
    return all(Path(job.output, name).is_file() for name in files.outputs)


@contextmanager
def _progress(jobs: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """A bar on stderr when a person is looking, else nothing."""
    if not (shown and sys.stderr.isatty()):
        yield lambda _steps: None
        return
    with click.progressbar(length=jobs, label="jobs", show_pos=True, file=sys.stderr) as bar:
        yield bar.update
