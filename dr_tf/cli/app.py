"""`dr_tf app`: a page in the browser that grades photographs, shows the evidence, and prints reports."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Sequence

from dr_tf.console import UserError, exit_on_user_error, print_status, require_packages
from dr_tf.inference.ready import add_run_dir_argument, print_measured
from dr_tf.runtime import starting_tensorflow

_EXAMPLES = """examples:
  {prog}                                        with the model that comes with dr_tf, at http://127.0.0.1:8501
  {prog} --model runs/idrid --prevalence 0.05
  {prog} --address 0.0.0.0                      for all machines of this network; put a proxy with TLS in front

The page is for this machine alone unless --address says otherwise. Photographs stay in memory while a page is open.
exit status: 0 after Ctrl-C or SIGTERM; 2 for wrong flags and for errors that are printed as one line beginning with "error:".
"""


def parse(arguments: Sequence[str] | None, prog: str = "python -m dr_tf.app") -> argparse.Namespace:
    """Parse the command line.

    Args:
        arguments: the command line after the program's name; that of this process if None.
        prog: the program's name in the help text.
    """
    parser = argparse.ArgumentParser(
        prog,
        description="Open a page in the browser that grades fundus photographs and shows the evidence.",
        epilog=_EXAMPLES.format(prog=prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_run_dir_argument(parser)
    parser.add_argument("--address", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8501, help="(default: 8501)")
    parser.add_argument(
        "--prevalence", type=float, default=0.1, metavar="P",
        help="the prevalence of positives at the clinic that the page begins with, from 0.001 to 0.99 (default: 0.1)",
    )  # fmt: skip
    parser.add_argument("--max_files", type=int, default=100, metavar="N", help="files in one upload (default: 100)")
    parser.add_argument("--max_file_mb", type=int, default=40, metavar="N", help="megabytes of a file (default: 40)")
    flags = parser.parse_args(arguments)
    if not 0.001 <= flags.prevalence <= 0.99:
        parser.error(f"--prevalence must be from 0.001 to 0.99, not {flags.prevalence:g}")
    if flags.max_files < 1 or flags.max_file_mb < 1 or not 0 < flags.port < 65536:
        parser.error("--max_files, --max_file_mb and --port must be 1 or more, and --port below 65536")
    return flags


def main(arguments: Sequence[str] | None = None, prog: str = "python -m dr_tf.app") -> None:
    """Parse the command line and serve the page until the process is stopped. Arguments as those of `parse`."""
    flags = parse(arguments, prog)
    with exit_on_user_error():
        run(flags)


def run(flags: argparse.Namespace) -> None:
    """Load the model and serve the page."""
    require_packages("streamlit", "jinja2", "matplotlib")
    _check_free(flags.address, flags.port)
    with starting_tensorflow(without=("sklearn",)):
        from dr_tf.app.engine import open_engine
        from dr_tf.app.limits import Limits
        from dr_tf.app.server import serve
        from dr_tf.app.settings import Settings, use_settings

        open_engine(flags.run_dir)
    print_measured(flags.run_dir)
    limits = Limits(file_mb=flags.max_file_mb, files=flags.max_files)
    use_settings(Settings(flags.run_dir, limits, flags.prevalence))
    shown = f"[{flags.address}]" if ":" in flags.address else flags.address
    print_status(f"open http://{shown}:{flags.port}")
    serve(flags.address, flags.port, limits)


def _check_free(address: str, port: int) -> None:
    """Refuse an address that cannot be listened on, before the model is loaded."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((address, port))
    except OSError as error:
        raise UserError(f"{address} port {port} cannot be used: {error.strerror}; --port gives another") from None
