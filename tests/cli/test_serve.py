"""`glip serve` starts, says where, answers and stops; what keeps it from starting is one line."""

import json
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from glip_commands.main import main
from tests.support import ROOT


def test_from_start_to_end(understanding_weights):
    """In a process of its own: the signal is for the server alone."""
    config = ROOT / "tests" / "support" / "tiny_understanding.py"
    options = ["--config-file", config, "--weights", understanding_weights, "--device", "cpu"]
    command = [sys.executable, "-m", "glip_commands", "serve", *map(str, options), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    first = server.stdout.readline()
    assert first.startswith("serving understanding at http://127.0.0.1:")
    address = first.split(" at ")[1].split(" ")[0]
    with urllib.request.urlopen(f"{address}/v1/model") as response:
        answer = json.load(response)
    assert answer["model"] == "understanding" and answer["examples"] == []
    server.send_signal(signal.SIGTERM)
    assert server.communicate(timeout=60)[0] == "stopped\n" and server.returncode == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1", "no such host"])
def test_where_nobody_can_listen(host, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status = main(["serve", "--host", host, "--port", str(port), "--device", "cpu"])
    lines = capsys.readouterr().err.splitlines()
    assert status == 2 and lines[-1].startswith(f"error: {host} port {port} cannot be listened at")
    assert "0 for a free one" in lines[-1]
