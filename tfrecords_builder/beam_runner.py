"""The Apache Beam runner that a build uses instead of worker processes of its own."""

import contextlib
import dataclasses
import io

from dr_tf.console import UserError


@dataclasses.dataclass(frozen=True)
class BeamRunner:
    name: str
    options: tuple[str, ...] = ()  # NAME=VALUE, or NAME alone for a switch

    @contextlib.contextmanager
    def pipeline(self):
        """A pipeline that runs at the end of the block."""
        pipeline = self._pipeline()
        try:
            with pipeline:
                yield pipeline
        except Exception as error:
            # Beam puts a worker's whole traceback into the message; its last line says what happened.
            said = [line for line in str(error).splitlines() if line.strip()] or [repr(error)]
            raise UserError(f"the work on {self.name} failed: {said[-1].strip()}") from error

    def check(self):
        """UserError where there is no such runner, or it cannot take the options."""
        self._pipeline()
        return self

    def _pipeline(self):
        try:
            import apache_beam as beam
            from apache_beam.options.pipeline_options import PipelineOptions
        except ImportError:
            raise UserError("--beam_runner needs Apache Beam: pip install -c constraints.txt '.[train,beam]'") from None
        said = io.StringIO()
        try:
            # Not checked, as crops and rejections come out of the same step.
            options = PipelineOptions([f"--{option}" for option in self.options], pipeline_type_check=False)
            with contextlib.redirect_stderr(said):  # a value that Beam does not understand prints its whole usage
                options.get_all_options(retain_unknown_options=True)
            return beam.Pipeline(runner=self.name, options=options)
        except SystemExit:
            raise UserError(f"--beam_option: {said.getvalue().strip().splitlines()[-1]}") from None
        except (ValueError, ImportError, AttributeError) as error:
            raise UserError(f"--beam_runner {self.name}: {' '.join(str(error).split())}") from None


def parse_beam(runner, options):
    """The BeamRunner of these flags; None where none is named."""
    if not runner:
        if options:
            raise UserError("--beam_option is for --beam_runner: name one")
        return None
    for option in options:
        if not option or option.startswith("-"):
            raise UserError(f"--beam_option {option!r} is not of the form NAME=VALUE, without dashes")
    return BeamRunner(runner, tuple(options)).check()
