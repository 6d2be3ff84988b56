"""`dr_tf serve`: decide over HTTP, as `dr_tf predict` does on files."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dr_tf.console import exit_on_user_error, print_status, require_packages
from dr_tf.fundus import subprocesses
from dr_tf.inference.ready import add_run_dir_argument, print_measured
from dr_tf.process import STATUSES
from dr_tf.runtime import starting_tensorflow

if TYPE_CHECKING:
    from dr_tf.inference.predictor import Predictor
    from dr_tf.serve.limits import Limits

_EXAMPLES = """examples:
  {prog}                                            the model that comes with dr_tf, on http://127.0.0.1:8000
  {prog} --model runs/clinic --port 8080
  {prog} --model exports/clinic --point sensitivity_0.95 --prevalence 0.08
  curl -F image=@photograph.jpg http://127.0.0.1:8000/v1/decide
  curl -F left=@12_left.jpg -F right=@12_right.jpg http://127.0.0.1:8000/v1/decide

Pages: /docs (what requests and answers hold), /v1/model, /health, /metrics (for Prometheus). Nobody has to log in, and nothing
is encrypted: put a proxy with TLS and a login before it, and keep the address 127.0.0.1.
exit status: 2 for wrong flags and for errors that are printed as one line beginning with "error:"; {statuses}. After SIGTERM
or Ctrl-C the requests that have arrived are answered first.
"""


def parse(arguments: Sequence[str] | None, prog: str = "dr_tf serve") -> argparse.Namespace:
    """Parse the command line.

    Args:
        arguments: the command line after the program's name; that of this process if None.
        prog: the program's name in the help text.
    """
    parser = argparse.ArgumentParser(
        prog,
        description="Decide on fundus photographs over HTTP, with the answers of `dr_tf predict`.",
        epilog=_EXAMPLES.format(prog=prog, statuses=STATUSES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_run_dir_argument(parser)
    parser.add_argument("--address", default="127.0.0.1", help="the interface to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="0 for any free one (default: %(default)s)")
    parser.add_argument("--mode", default="plain", help="the inference mode, such as tta4 (default: plain)")
    parser.add_argument("--point", metavar="NAME", help="the operating point of requests that name none")
    parser.add_argument("--prevalence", type=float, metavar="P", help="the prevalence for requests that name none")
    parser.add_argument(
        "--runtime", default="fastest", choices=("fastest", "tensorflow"),
        help="what runs the network: ONNX Runtime where an export is at hand (the default), or always TensorFlow",
    )  # fmt: skip
    parser.add_argument("--batch_size", type=int, default=16, metavar="N", help="(default: %(default)s)")
    parser.add_argument(
        "--queue", type=int, default=256, metavar="N",
        help="the most requests at a time; further ones are refused with the status 429 (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--timeout", type=float, default=60, metavar="SECONDS", help="for one request (default: %(default)s)"
    )
    parser.add_argument("--max_megabytes", type=float, default=64, metavar="MB", help="of one request (default: 64)")
    parser.add_argument(
        "--max_total_megabytes", type=float, default=512, metavar="MB", help="of all requests at a time (default: 512)"
    )
    flags = parser.parse_args(arguments)
    for name in ("batch_size", "queue", "timeout", "max_megabytes", "max_total_megabytes"):
        if not getattr(flags, name) > 0:
            parser.error(f"--{name} must be above 0")
    if not 0 <= flags.port < 1 << 16:
        parser.error(f"--port is a number from 0 to {(1 << 16) - 1}, not {flags.port}")
    return flags


def main(arguments: Sequence[str] | None = None, prog: str = "dr_tf serve") -> None:
    """Parse the command line and serve until a signal ends it. Arguments as those of `parse`."""
    flags = parse(arguments, prog)
    with exit_on_user_error():
        run(flags)


def run(flags: argparse.Namespace) -> None:
    """Serve as the flags ask."""
    require_packages("fastapi", "uvicorn", "python_multipart", "prometheus_client")
    from dr_tf.serve.application import create_application
    from dr_tf.serve.server import listen, make_server, url_of

    model, limits = flags.run_dir, limits_of(flags)
    predictor = load(model, flags)
    print_measured(model)
    listening = listen(flags.address, flags.port)
    server = make_server(create_application(predictor, model, limits), limits)
    print_status(f"dr_tf serves on {url_of(listening)}; documentation: {url_of(listening)}/docs")
    server.run(sockets=[listening])


def limits_of(flags: argparse.Namespace) -> Limits:
    """Return the limits that the flags name."""
    from dr_tf.serve.limits import Limits

    one, total = round(flags.max_megabytes * 1e6), round(flags.max_total_megabytes * 1e6)
    return Limits(flags.queue, one, total, flags.timeout, flags.batch_size)


def load(model: pathlib.Path, flags: argparse.Namespace) -> Predictor:
    """Load the model with the mode, operating point and prevalence that the flags name."""
    subprocesses.start_shared_worker()  # it imports numpy and OpenCV while this process does
    with starting_tensorflow(without=("sklearn", "matplotlib")):
        from dr_tf.inference.predictor import Predictor

        predictor = Predictor.from_run(model, flags.mode, keras=flags.runtime == "tensorflow")
    predictor.change_rule(point=flags.point, prevalence=flags.prevalence)
    return predictor
