"""The Apache Beam runner that a build can use instead of local worker processes."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Self

from dr_tf.console import UserError

if TYPE_CHECKING:
    import apache_beam


@dataclasses.dataclass(frozen=True)
class BeamRunner:
    """An Apache Beam runner and its pipeline options.

    Attributes:
        name: As Apache Beam names it, e.g. DirectRunner.
        options: NAME=VALUE, or NAME alone for a switch.
    """

    name: str
    options: tuple[str, ...] = ()

    @contextlib.contextmanager
    def pipeline(self) -> Iterator[apache_beam.Pipeline]:
        """Yield a pipeline that runs at the end of the `with` block. A failure in it becomes a UserError."""
        pipeline = self._pipeline()
        try:
            with pipeline:
                yield pipeline
        except Exception as error:
            # Beam puts the whole traceback of a worker into the message. Its last line is the error itself.
            lines = [line for line in str(error).splitlines() if line.strip()] or [repr(error)]
            raise UserError(f"the work on {self.name} failed: {lines[-1].strip()}") from error

    def check(self) -> Self:
        """Return this runner if it exists and accepts the options.

        Raises:
            UserError: Apache Beam is not installed, or does not know the runner or an option.
        """
        self._pipeline()
        return self

    def _pipeline(self):
        try:
            import apache_beam as beam
            from apache_beam.options.pipeline_options import PipelineOptions
        except ImportError:
            raise UserError("--beam_runner needs Apache Beam: pip install -c constraints.txt '.[train,beam]'") from None
        stderr = io.StringIO()
        try:
            # Types are not checked, because one step outputs both crops and rejections.
            options = PipelineOptions([f"--{option}" for option in self.options], pipeline_type_check=False)
            with contextlib.redirect_stderr(stderr):  # for an invalid value, Beam prints its whole usage
                options.get_all_options(retain_unknown_options=True)
            return beam.Pipeline(runner=self.name, options=options)
        except SystemExit:
            raise UserError(f"--beam_option: {stderr.getvalue().strip().splitlines()[-1]}") from None
        except (ValueError, ImportError, AttributeError) as error:
            raise UserError(f"--beam_runner {self.name}: {' '.join(str(error).split())}") from None


def parse_beam_flags(runner: str, options: Sequence[str]) -> BeamRunner | None:
    """Return the BeamRunner of the flags --beam_runner and --beam_option, or None where no runner is named.

    Raises:
        UserError: The runner does not exist, or an option is malformed or not accepted.
    """
    if not runner:
        if options:
            raise UserError("--beam_option needs --beam_runner")
        return None
    for option in options:
        if not option or option.startswith("-"):
            raise UserError(f"--beam_option {option!r} does not have the form NAME=VALUE, without dashes")
    return BeamRunner(runner, tuple(options)).check()
