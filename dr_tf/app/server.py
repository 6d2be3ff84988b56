"""Start Streamlit's server in this process, with settings that keep photographs private."""

from __future__ import annotations

import pathlib
import threading
from typing import Any

from dr_tf.app.limits import Limits

SCRIPT = pathlib.Path(__file__).with_name("script.py")
_LOOPBACK = ["localhost", "127.0.0.1", "::1"]
_THEME = {
    "theme_base": "light",
    "theme_primaryColor": "#14597f",
    "theme_textColor": "#1c2430",
    "theme_secondaryBackgroundColor": "#f4f7f9",
}


def server_options(address: str, port: int, limits: Limits) -> dict[str, Any]:
    """Return Streamlit's options by their names as flags."""
    return _THEME | {
        "server_address": address,
        "server_port": port,
        # A page of another site could otherwise reach this one under a name of its own (DNS rebinding).
        "server_allowedHosts": _LOOPBACK if address in _LOOPBACK else [],
        "server_headless": True,
        "server_fileWatcherType": "none",
        "server_runOnSave": False,
        "server_enableXsrfProtection": True,
        "server_enableCORS": True,
        "server_enableStaticServing": False,
        "server_maxUploadSize": limits.file_mb,
        "server_disconnectedSessionTTL": 60,
        "server_showEmailPrompt": False,
        "browser_gatherUsageStats": False,
        "client_showErrorDetails": "none",
        "client_showErrorLinks": False,
        "client_toolbarMode": "minimal",
        "client_disableDataExport": True,
        "logger_level": "warning",
        "logger_hideWelcomeMessage": True,
    }


def serve(address: str, port: int, limits: Limits) -> None:
    """Serve the page until the process is stopped."""
    from streamlit.web import bootstrap

    from dr_tf.app.page import warm_up  # imported before the first visit, not at it

    options = server_options(address, port, limits)
    bootstrap.load_config_options(options)
    threading.Thread(target=warm_up, daemon=True).start()
    bootstrap.run(str(SCRIPT), False, [], options)
