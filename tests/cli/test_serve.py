"""`glip serve` starts, says where, answers and stops; what keeps it from starting is one line."""

import json
import os
import signal
import socket
import threading
import urllib.request

import pytest

from glip_commands.main import main
from glipv2_d2.cli import serve
from tests.support import ROOT


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_from_start_to_end(number, understanding_weights, capsys, monkeypatch):
    answers = []

    def answer_then_stop(app, listener, limits):
        def client():
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with urllib.request.urlopen(f"{address}/v1/model") as response:
                answers.append(json.load(response))
            os.kill(os.getpid(), number)

        thread = threading.Thread(target=client)
        thread.start()
        run(app, listener, limits)
        thread.join()

    run = serve.answer_until_stopped
    monkeypatch.setattr(serve, "answer_until_stopped", answer_then_stop)
    before = signal.getsignal(signal.SIGTERM)
    status = main(
        [
            "serve", "--config-file", ROOT / "tests" / "support" / "tiny_understanding.py",
            "--weights", understanding_weights, "--port", "0", "--device", "cpu",
        ]
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert status == 0 and printed.startswith("serving understanding at http://127.0.0.1:")
    assert printed.endswith("stopped\n") and signal.getsignal(signal.SIGTERM) == before
    assert answers[0]["model"] == "understanding" and answers[0]["examples"] == []


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1", "no such host"])
def test_where_nobody_can_listen(host, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status = main(["serve", "--host", host, "--port", str(port), "--device", "cpu"])
    lines = capsys.readouterr().err.splitlines()
    assert status == 2 and lines[-1].startswith(f"error: {host} port {port} cannot be listened at")
    assert "0 for a free one" in lines[-1]
